//! The table as messages to nf_tables, in the order of one transaction.
//!
//! Comes in: a [`Table`]. Goes out: messages that make it, whatever table of this name is there before; or that
//! remove it. Each says in words what it is about, for errors. Objects that are read back have the same form, so what
//! was meant is compared with what is there ([`super::read_back`]).

use super::{
    attributes::Attributes,
    expressions,
    nf_tables::*,
    rules::{Chain, Hook, Rule, Set, TABLE, Table},
    skip::Key,
};

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    /// Of the nf_tables subsystem.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    /// The object.
    pub(crate) attributes: Attributes,
    /// What goes with it, but is no part of it: the kernel does not say it again.
    pub(crate) aside: Attributes,
    /// What it makes or removes.
    pub(crate) about: String,
    /// Modules of the kernel that it needs.
    pub(crate) needs: Vec<&'static str>,
}

/// Replaces the table.
pub(crate) fn replace(table: &Table) -> Vec<Message> {
    let mut messages = remove();
    messages.push(new_table());
    messages.extend(objects(table));
    messages
}

/// Removes the table. One that is not there cannot be removed, so it is made first.
pub(crate) fn remove() -> Vec<Message> {
    let delete = Message {
        kind: NFT_MSG_DELTABLE,
        flags: 0,
        about: format!("the removal of table inet {TABLE}"),
        ..new_table()
    };
    vec![new_table(), delete]
}

/// All that is in the table: sets, their elements, chains, their rules.
pub(crate) fn objects(table: &Table) -> Vec<Message> {
    let sets = table.sets.iter().zip(1..).map(|(set, id)| new_set(set, id));
    let elements = table.sets.iter().filter(|set| !set.elements.ranges.is_empty()).map(elements);
    let chains = table.chains.iter().map(new_chain);
    let rules = table.chains.iter().flat_map(|chain| {
        chain.rules.iter().zip(1..).map(|(rule, number)| new_rule(chain.name, rule, number))
    });
    sets.chain(elements).chain(chains).chain(rules).collect()
}

fn new_table() -> Message {
    Message {
        kind: NFT_MSG_NEWTABLE,
        flags: NLM_F_CREATE,
        attributes: Attributes::new().text(NFTA_TABLE_NAME, TABLE),
        aside: Attributes::new(),
        about: format!("table inet {TABLE}"),
        needs: vec!["nf_tables"],
    }
}

fn new_set(set: &Set, id: u32) -> Message {
    let key = set.elements.key;
    let kind = match key {
        Key::Port => TYPE_INET_SERVICE,
        Key::Ipv4 => TYPE_IPADDR,
        Key::Ipv6 => TYPE_IP6ADDR,
    };
    Message {
        kind: NFT_MSG_NEWSET,
        flags: NLM_F_CREATE,
        attributes: Attributes::new()
            .text(NFTA_SET_TABLE, TABLE)
            .text(NFTA_SET_NAME, set.name)
            .number(NFTA_SET_FLAGS, NFT_SET_INTERVAL)
            .number(NFTA_SET_KEY_TYPE, kind)
            .number(NFTA_SET_KEY_LEN, key.bits() / 8),
        // A number for the set within the transaction.
        aside: Attributes::new().number(NFTA_SET_ID, id),
        about: format!("set {}", set.name),
        // Part of nf_tables since Linux 4.17.
        needs: vec!["nft_set_rbtree"],
    }
}

fn elements(set: &Set) -> Message {
    let key = set.elements.key;
    let element = |list: Attributes, value, flags| {
        let value = Attributes::new().bytes(NFTA_DATA_VALUE, &key.bytes(value));
        let element = Attributes::new().nested(NFTA_SET_ELEM_KEY, &value);
        let element = if flags == 0 { element } else { element.number(NFTA_SET_ELEM_FLAGS, flags) };
        list.nested(NFTA_LIST_ELEM, &element)
    };
    let list = set.elements.ranges.iter().fold(Attributes::new(), |list, &(first, last)| {
        let list = element(list, first, 0);
        // An interval ends before its end; one without goes on to the greatest value.
        if last == key.greatest() {
            return list;
        }
        element(list, last + 1, NFT_SET_ELEM_INTERVAL_END)
    });
    Message {
        kind: NFT_MSG_NEWSETELEM,
        flags: NLM_F_CREATE,
        attributes: set_of_elements(set.name).nested(NFTA_SET_ELEM_LIST_ELEMENTS, &list),
        aside: Attributes::new(),
        about: format!("set {}: elements {{ {} }}", set.name, set.elements),
        needs: Vec::new(),
    }
}

/// Names a set whose elements are meant.
pub(crate) fn set_of_elements(set: &str) -> Attributes {
    Attributes::new().text(NFTA_SET_ELEM_LIST_TABLE, TABLE).text(NFTA_SET_ELEM_LIST_SET, set)
}

fn new_chain(chain: &Chain) -> Message {
    let number = match chain.hook {
        Hook::Output => NF_INET_LOCAL_OUT,
        Hook::Prerouting => NF_INET_PRE_ROUTING,
    };
    let hook = Attributes::new()
        .number(NFTA_HOOK_HOOKNUM, number)
        .bytes(NFTA_HOOK_PRIORITY, &Hook::PRIORITY.to_be_bytes());
    Message {
        kind: NFT_MSG_NEWCHAIN,
        flags: NLM_F_CREATE,
        attributes: Attributes::new()
            .text(NFTA_CHAIN_TABLE, TABLE)
            .text(NFTA_CHAIN_NAME, chain.name)
            .nested(NFTA_CHAIN_HOOK, &hook)
            .number(NFTA_CHAIN_POLICY, NF_ACCEPT)
            .text(NFTA_CHAIN_TYPE, "nat"),
        aside: Attributes::new(),
        about: format!("chain {}, of type nat in family inet", chain.name),
        needs: vec!["nft_chain_nat", "nf_nat"],
    }
}

fn new_rule(chain: &str, rule: &Rule, number: u32) -> Message {
    let program = expressions::list(&rule.expressions());
    Message {
        kind: NFT_MSG_NEWRULE,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        attributes: Attributes::new()
            .text(NFTA_RULE_TABLE, TABLE)
            .text(NFTA_RULE_CHAIN, chain)
            .nested(NFTA_RULE_EXPRESSIONS, &program),
        aside: Attributes::new(),
        about: format!("rule {number} of chain {chain}, \"{rule}\""),
        needs: rule.modules(),
    }
}
