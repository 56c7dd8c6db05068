//! What else a person is told, beyond the interlink and the LUNs: where the two machines' configurations differ in
//! what parts nobody. Who may log in, and where hosts are told to go, is compared and told; the two work together
//! all the same, for the data is safe, and otherwise no host could be added without taking a controller out of
//! service.

use std::collections::BTreeSet;

use crate::plan::{Plan, Side, TOLD};

/// Differences told one by one; the rest are counted.
const TOLD_SINGLY: usize = 3;

/// What is wrong with the appliance as a whole, and what to do: this controller's plan beside what its peer says of its
/// own.
pub(super) fn notes(plan: &Plan, theirs: &[(String, String)]) -> Vec<String> {
    let mut notes = luns_of_the_peer_alone(plan, theirs);
    notes.extend(told_differences(plan, theirs));
    notes
}

fn luns_of_the_peer_alone(plan: &Plan, theirs: &[(String, String)]) -> Vec<String> {
    let [own, peer] = [plan.side, plan.side.peer()].map(|side| &plan.names[side.index()]);
    let named = theirs.iter().filter_map(|(key, number)| {
            let name = key.strip_prefix("lun.")?.strip_suffix(".number")?;
            let known = plan.luns.iter().any(|lun| lun.name == name);
            (!known && !key.starts_with(TOLD)).then(|| {
                format!(
                    "LUN {number} {name}: {peer} was started with it in its appliance.toml, {own} without it, and so \
                     neither serves it. Make the two files equal, then start again the one whose file was another \
                     when it was started"
                )
            })
        });
    named.collect()
}

fn told_differences(plan: &Plan, theirs: &[(String, String)]) -> Vec<String> {
    let told = |list: &[(String, String)]| -> BTreeSet<String> {
        list.iter().filter(|(key, _)| key.starts_with(TOLD)).map(|(key, _)| key.clone()).collect()
    };
    let (own_keys, their_keys) = (told(&plan.shared), told(theirs));
    // A release that does not tell them.
    if own_keys.is_empty() || their_keys.is_empty() {
        return Vec::new();
    }
    let value = |list: &[(String, String)], key: &str| {
        let found = list.iter().find(|(known, _)| known == key);
        found.map_or_else(|| "not there".to_owned(), |(_, value)| value.clone())
    };
    let [first_name, second_name] = &plan.names;
    let mut differ = Vec::new();
    for key in own_keys.union(&their_keys) {
        let (own, their) = (value(&plan.shared, key), value(theirs, key));
        if own == their {
            continue;
        }
        let [first, second] = if plan.side == Side::First { [own, their] } else { [their, own] };
        let key = key.strip_prefix(TOLD).unwrap_or(key);
        differ.push(format!("`{key}`: {first} on {first_name}, {second} on {second_name}"));
    }
    let more = match differ.len().saturating_sub(TOLD_SINGLY) {
        0 => String::new(),
        more => format!("; and in {more} more"),
    };
    differ.truncate(TOLD_SINGLY);
    if differ.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the two machines' appliance.toml differ in {}{more}. Data is safe, but a host may be let in or sent elsewhere \
             by one controller and not by the other. Make the two files equal, then start again what was started with \
             the wrong one",
        differ.join("; ")
    )]
}
