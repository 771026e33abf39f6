//! What the kernel has, read back: is it what was meant, and what else is there?
//!
//! Comes in: dumps of sets, elements, chains and rules. Goes out: nothing, or the first object that is missing or
//! different; and, for errors, which rules of others a connection meets. It changes nothing.

use super::{
    attributes::{self, Attributes},
    error::InitError,
    messages::{self, Message},
    nf_tables::*,
    rules::{TABLE, Table},
    socket::{Dumped, Netlink},
};

/// As many of others' chains are named.
const MOST_OTHERS: usize = 8;

/// Compares what is there with what was meant.
pub(crate) fn check(netlink: &Netlink, table: &Table) -> Result<(), InitError> {
    let wanted = messages::objects(table);
    let of_kind = |kind| wanted.iter().filter(move |message| message.kind == kind);
    for (kind, request) in [(NFT_MSG_NEWSET, NFT_MSG_GETSET), (NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN)]
    {
        let found = ours(netlink, request)?;
        for message in of_kind(kind) {
            if !found.iter().any(|found| attributes::holds(&message.attributes, &found.attributes))
            {
                return Err(different(message));
            }
        }
    }
    check_rules(
        table,
        &of_kind(NFT_MSG_NEWRULE).collect::<Vec<_>>(),
        &ours(netlink, NFT_MSG_GETRULE)?,
    )?;
    for set in &table.sets {
        let attributes = messages::set_of_elements(set.name);
        let found = netlink.dump(NFT_MSG_GETSETELEM, NFPROTO_INET, &attributes)?;
        let found = elements(found.iter().map(|found| found.attributes.as_slice()));
        let is_of_set = |message: &&Message| {
            attributes::text(message.attributes.as_bytes(), NFTA_SET_ELEM_LIST_SET)
                == Some(set.name)
        };
        let message = of_kind(NFT_MSG_NEWSETELEM).find(is_of_set);
        if found != elements(message.map(|message| message.attributes.as_bytes()).into_iter()) {
            let should = &set.elements;
            let name = set.name;
            return Err(InitError::NotAsWritten(format!(
                "set {name} has not just the elements {{ {should} }}"
            )));
        }
    }
    Ok(())
}

/// Each chain must have its rules in their order, and no others.
fn check_rules(table: &Table, wanted: &[&Message], found: &[Dumped]) -> Result<(), InitError> {
    for chain in &table.chains {
        let is_of_chain =
            |bytes: &[u8]| attributes::text(bytes, NFTA_RULE_CHAIN) == Some(chain.name);
        let wanted = wanted.iter().filter(|message| is_of_chain(message.attributes.as_bytes()));
        let mut found = found.iter().filter(|found| is_of_chain(&found.attributes));
        for message in wanted {
            let is_there = found
                .next()
                .is_some_and(|found| attributes::holds(&message.attributes, &found.attributes));
            if !is_there {
                return Err(different(message));
            }
        }
        if found.next().is_some() {
            let name = chain.name;
            return Err(InitError::NotAsWritten(format!("chain {name} has further rules")));
        }
    }
    Ok(())
}

fn different(message: &Message) -> InitError {
    InitError::NotAsWritten(format!("{} is missing or different", message.about))
}

/// What our table has of a kind.
fn ours(netlink: &Netlink, request: u16) -> Result<Vec<Dumped>, InitError> {
    // A table's name is the first attribute of all that is in it.
    let of_table = Attributes::new().text(NFTA_RULE_TABLE, TABLE);
    let mut found = netlink.dump(request, NFPROTO_INET, &of_table)?;
    found.retain(is_ours);
    Ok(found)
}

fn is_ours(found: &Dumped) -> bool {
    found.family == NFPROTO_INET
        && attributes::text(&found.attributes, NFTA_RULE_TABLE) == Some(TABLE)
}

/// The elements in messages, sorted: key, and whether an interval ends before it.
fn elements<'a>(messages: impl Iterator<Item = &'a [u8]>) -> Vec<(&'a [u8], bool)> {
    let lists = messages.filter_map(|bytes| attributes::find(bytes, NFTA_SET_ELEM_LIST_ELEMENTS));
    let items = lists.flat_map(|list| attributes::read(list).map(|(_, element)| element));
    let mut elements: Vec<_> = items
        .filter_map(|element| {
            let key = attributes::find(element, NFTA_SET_ELEM_KEY)?;
            let flags = attributes::number(element, NFTA_SET_ELEM_FLAGS).unwrap_or(0);
            let is_end = flags & NFT_SET_ELEM_INTERVAL_END != 0;
            Some((attributes::find(key, NFTA_DATA_VALUE)?, is_end))
        })
        .collect();
    elements.sort_unstable();
    elements
}

/// The rules of others that a connection of this network namespace meets, as the end of a sentence; nothing where
/// they cannot be read.
pub(crate) fn others(netlink: &Netlink) -> String {
    let Ok(chains) = netlink.dump(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, &Attributes::new()) else {
        return String::new();
    };
    let names = chains.iter().filter(|chain| !is_ours(chain)).filter_map(on_the_way);
    let names: Vec<String> = names.take(MOST_OTHERS).collect();
    if names.is_empty() {
        return "; no other nf_tables rules are on its way here".to_owned();
    }
    format!("; others' rules on its way here: {}", names.join("; "))
}

/// A chain's name and place, where it is at a hook that connections through loopback meet.
fn on_the_way(chain: &Dumped) -> Option<String> {
    let family = match chain.family {
        NFPROTO_INET => "inet",
        NFPROTO_IPV4 => "ip",
        NFPROTO_IPV6 => "ip6",
        _ => return None,
    };
    let hook = attributes::find(&chain.attributes, NFTA_CHAIN_HOOK)?;
    let place = match attributes::number(hook, NFTA_HOOK_HOOKNUM)? {
        NF_INET_PRE_ROUTING => "prerouting",
        NF_INET_LOCAL_IN => "input",
        NF_INET_LOCAL_OUT => "output",
        NF_INET_POST_ROUTING => "postrouting",
        _ => return None,
    };
    let priority = attributes::number(hook, NFTA_HOOK_PRIORITY)?.cast_signed();
    let table = attributes::text(&chain.attributes, NFTA_CHAIN_TABLE)?;
    let name = attributes::text(&chain.attributes, NFTA_CHAIN_NAME)?;
    Some(format!("table {family} {table}, chain {name} ({place}, priority {priority})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::tests::table;

    /// The rules as a kernel would have them.
    fn dumped(messages: &[&Message]) -> Vec<Dumped> {
        let handle = Attributes::new().bytes(3, &[0; 8]);
        let dump = |message: &&Message| Dumped {
            family: NFPROTO_INET,
            attributes: message.attributes.clone().followed_by(&handle).as_bytes().to_vec(),
        };
        messages.iter().map(dump).collect()
    }

    #[test]
    fn rules_must_be_there_in_their_order_and_no_others() {
        let table = table(&[]);
        let objects = messages::objects(&table);
        let rules: Vec<_> = objects.iter().filter(|rule| rule.kind == NFT_MSG_NEWRULE).collect();
        let check = |found: &[&Message]| match check_rules(&table, &rules, &dumped(found)) {
            Ok(()) => "as written".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(check(&rules), "as written");

        let mut swapped = rules.clone();
        swapped.swap(1, 2);
        assert!(check(&swapped).contains("rule 2 of chain outbound, \"meta skuid 4140 return\""));
        let mut missing = rules.clone();
        missing.pop();
        let last =
            "rule 7 of chain inbound, \"meta l4proto tcp counter redirect to :4143\" is missing";
        assert!(check(&missing).contains(last), "{}", check(&missing));
        let mut further = rules.clone();
        further.push(rules[0]);
        assert!(check(&further).contains("chain outbound has further rules"));

        let another = crate::init::tests::table(&["--proxy-user=7"]);
        let another = messages::objects(&another);
        let changed: Vec<_> = another.iter().filter(|rule| rule.kind == NFT_MSG_NEWRULE).collect();
        assert!(check(&changed).contains("\"meta skuid 4140 return\" is missing or different"));
    }

    #[test]
    fn elements_are_compared_whatever_their_order_and_message() {
        let objects = messages::objects(&table(&["--skip-outbound-ports=22,80-90"]));
        let ports = objects.iter().find(|message| message.kind == NFT_MSG_NEWSETELEM);
        let ports = ports.expect("there are some").attributes.as_bytes();
        let values = [(22, false), (23, true), (80, false), (91, true)];
        let expected: Vec<_> = values
            .iter()
            .map(|(port, is_end): &(u16, bool)| (port.to_be_bytes(), *is_end))
            .collect();
        let found = elements(std::iter::once(ports));
        let found: Vec<_> = found.iter().map(|(key, is_end)| (*key, *is_end)).collect();
        assert_eq!(found, expected.iter().map(|(key, end)| (&key[..], *end)).collect::<Vec<_>>());
    }
}
