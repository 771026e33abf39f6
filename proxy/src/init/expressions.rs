//! Rules as nf_tables expressions: a small program that the kernel runs for a packet.
//!
//! Comes in: a [`Rule`]. Goes out: its expressions. Each loads something into a register or looks at one; the first
//! that does not match ends the rule. They must be those that `nft` makes of the same text, so that `nft` shows
//! the text.

use super::{
    attributes::Attributes,
    nf_tables::*,
    rules::{Match, Rule, Verdict},
    skip::Key,
};

/// One step: its name in the kernel, and its attributes.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub(crate) name: &'static str,
    data: Attributes,
}

/// SYN and ACK of TCP's flags (RFC 9293 section 3.1), which are the header's byte 13.
const SYN_AND_ACK: u8 = 0x12;
const SYN: u8 = 0x02;
const TCP_FLAGS: u32 = 13;
const TCP_DESTINATION_PORT: u32 = 2;

/// Offset and length of an address in its header, by family (RFC 791 section 3.1, RFC 8200 section 3).
const IPV4_SOURCE: (u32, u32) = (12, 4);
const IPV4_DESTINATION: (u32, u32) = (16, 4);
const IPV6_SOURCE: (u32, u32) = (8, 16);
const IPV6_DESTINATION: (u32, u32) = (24, 16);

impl Rule {
    /// The rule's program.
    pub(crate) fn expressions(&self) -> Vec<Expression> {
        let mut program = match self.matches {
            Match::OpensNothing => [
                is_tcp(),
                vec![
                    payload(NFT_PAYLOAD_TRANSPORT_HEADER, (TCP_FLAGS, 1)),
                    and(&[SYN_AND_ACK]),
                    compare(NFT_CMP_NEQ, &[SYN]),
                ],
            ]
            .concat(),
            Match::Owner(user) => is(NFT_META_SKUID, &user.to_ne_bytes()),
            Match::ToLoopback => is(NFT_META_OIFNAME, &interface_name("lo")),
            Match::FromLoopback => is(NFT_META_IIFNAME, &interface_name("lo")),
            Match::NotForUs => {
                vec![destination_type(), compare(NFT_CMP_NEQ, &RTN_LOCAL.to_ne_bytes())]
            }
            Match::Port(set) => {
                let port = payload(NFT_PAYLOAD_TRANSPORT_HEADER, (TCP_DESTINATION_PORT, 2));
                [is_tcp(), vec![port, is_in(set)]].concat()
            }
            Match::Destination(key, set) => match key {
                Key::Ipv6 => address_is_in(NFPROTO_IPV6, IPV6_DESTINATION, set),
                Key::Ipv4 | Key::Port => address_is_in(NFPROTO_IPV4, IPV4_DESTINATION, set),
            },
            Match::Source(key, set) => match key {
                Key::Ipv6 => address_is_in(NFPROTO_IPV6, IPV6_SOURCE, set),
                Key::Ipv4 | Key::Port => address_is_in(NFPROTO_IPV4, IPV4_SOURCE, set),
            },
            Match::Tcp => is_tcp(),
        };
        match self.verdict {
            Verdict::Return => program.push(leave_the_chain()),
            Verdict::Redirect(port) => program.extend(redirect(port)),
        }
        program
    }

    /// The modules of the kernel that a rule needs beyond nf_tables itself.
    pub(crate) fn modules(&self) -> Vec<&'static str> {
        let expressions = self.expressions();
        expressions.iter().filter_map(|expression| module(expression.name)).collect()
    }
}

fn module(expression: &str) -> Option<&'static str> {
    match expression {
        "fib" => Some("nft_fib_inet"),
        "redir" => Some("nft_redir"),
        // Part of nf_tables since Linux 5.18.
        "counter" => Some("nft_counter"),
        _ => None,
    }
}

/// A program as an attribute's value.
pub(crate) fn list(program: &[Expression]) -> Attributes {
    program.iter().fold(Attributes::new(), |list, expression| {
        let named = Attributes::new().text(NFTA_EXPR_NAME, expression.name);
        list.nested(NFTA_LIST_ELEM, &named.nested(NFTA_EXPR_DATA, &expression.data))
    })
}

fn is_tcp() -> Vec<Expression> {
    is(NFT_META_L4PROTO, &[IPPROTO_TCP])
}

/// What is known beside the packet is this.
fn is(key: u32, value: &[u8]) -> Vec<Expression> {
    let load = Attributes::new().number(NFTA_META_KEY, key).number(NFTA_META_DREG, NFT_REG_1);
    vec![Expression { name: "meta", data: load }, compare(NFT_CMP_EQ, value)]
}

/// As it is compared: filled with zeros.
fn interface_name(name: &str) -> [u8; IFNAMSIZ] {
    let mut bytes = [0; IFNAMSIZ];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    bytes
}

fn address_is_in(family: u8, place: (u32, u32), set: &str) -> Vec<Expression> {
    let address = payload(NFT_PAYLOAD_NETWORK_HEADER, place);
    [is(NFT_META_NFPROTO, &[family]), vec![address, is_in(set)]].concat()
}

fn payload(base: u32, (offset, length): (u32, u32)) -> Expression {
    let data = Attributes::new()
        .number(NFTA_PAYLOAD_DREG, NFT_REG_1)
        .number(NFTA_PAYLOAD_BASE, base)
        .number(NFTA_PAYLOAD_OFFSET, offset)
        .number(NFTA_PAYLOAD_LEN, length);
    Expression { name: "payload", data }
}

/// Keeps these bits of one byte.
fn and(mask: &[u8; 1]) -> Expression {
    let data = Attributes::new()
        .number(NFTA_BITWISE_SREG, NFT_REG_1)
        .number(NFTA_BITWISE_DREG, NFT_REG_1)
        .number(NFTA_BITWISE_LEN, 1)
        .nested(NFTA_BITWISE_MASK, &value(mask))
        .nested(NFTA_BITWISE_XOR, &value(&[0]));
    Expression { name: "bitwise", data }
}

fn compare(operation: u32, with: &[u8]) -> Expression {
    let data = Attributes::new()
        .number(NFTA_CMP_SREG, NFT_REG_1)
        .number(NFTA_CMP_OP, operation)
        .nested(NFTA_CMP_DATA, &value(with));
    Expression { name: "cmp", data }
}

fn is_in(set: &str) -> Expression {
    let data = Attributes::new().text(NFTA_LOOKUP_SET, set).number(NFTA_LOOKUP_SREG, NFT_REG_1);
    Expression { name: "lookup", data }
}

/// What the destination is to this machine: its own address, another's, a broadcast.
fn destination_type() -> Expression {
    let data = Attributes::new()
        .number(NFTA_FIB_DREG, NFT_REG_1)
        .number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
        .number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
    Expression { name: "fib", data }
}

fn leave_the_chain() -> Expression {
    let code = Attributes::new().bytes(NFTA_VERDICT_CODE, &NFT_RETURN.to_be_bytes());
    let verdict = Attributes::new().nested(NFTA_DATA_VERDICT, &code);
    immediate(NFT_REG_VERDICT, &verdict)
}

fn redirect(port: u16) -> [Expression; 3] {
    let counter = Expression { name: "counter", data: Attributes::new() };
    let to = Attributes::new().number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
    let redirect = Expression { name: "redir", data: to };
    [counter, immediate(NFT_REG_1, &value(&port.to_be_bytes())), redirect]
}

fn immediate(register: u32, data: &Attributes) -> Expression {
    let data =
        Attributes::new().number(NFTA_IMMEDIATE_DREG, register).nested(NFTA_IMMEDIATE_DATA, data);
    Expression { name: "immediate", data }
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(NFTA_DATA_VALUE, bytes)
}
