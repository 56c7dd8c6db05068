//! The screen of `twinlun status`: columns, lists cut to what fits, lines that explain.

use controller::pair::PairStatus;
use controller::status::{ControllerStatus, HostStatus, LunStatus, ReservationStatus};

use super::{Overview, Seen, View, not_in_the_file};
use crate::cli::table::{self, row};
use crate::config::{Config, in_units};

/// Columns of a line that explains, at most (a longer word excepted).
const COLUMNS_MAX: usize = 100;
/// LUNs shown at most; those with something to say come first when there are more.
const LUNS_SHOWN_MAX: usize = 16;
/// Hosts shown of one controller at most.
const HOSTS_SHOWN_MAX: usize = 4;
/// Problems shown at most.
const PROBLEMS_SHOWN_MAX: usize = 8;
/// Initiators that hold a reservation shown at most.
const HOLDERS_SHOWN_MAX: usize = 2;
/// Characters of a name that an initiator gave itself shown at most.
const NAME_CHARACTERS_MAX: usize = 60;

/// Where whatever was cut can be read.
const ALL: &str = "`twinlun status --json` has all of them";

/// A LUN of the file, or one that a controller goes on with.
#[derive(Clone, Copy)]
struct Named<'v> {
    number: u16,
    name: &'v str,
    /// As the file says.
    bytes: Option<u64>,
}

impl Named<'_> {
    fn on(self, view: &View) -> Option<Seen<'_>> {
        view.find_named(self.number, self.name)
    }
}

/// The screen.
pub(super) fn render(overview: &Overview, config: &Config) -> String {
    let id = overview.appliance.as_deref().map(|id| format!("   appliance {id}")).unwrap_or_default();
    let mut controllers = vec![row(["CONTROLLER", "STATE", "INTERLINK"])];
    controllers.extend(overview.controllers.iter().map(|view| controller_row(overview, view)));
    let parts = [
        format!("{}{id}\n", overview.iqn),
        table::render(&controllers),
        luns(overview, config),
        hosts(overview),
        explained(overview),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn controller_row(overview: &Overview, view: &View) -> Vec<String> {
    let peer =
        overview.controllers.iter().find(|other| other.name != view.name).map_or("", |peer| &peer.name);
    let age = view.said.as_ref().map(|said| ago(said.age_seconds));
    let last = age.as_ref().map(|age| format!(", {peer} last heard of it {age}")).unwrap_or_default();
    let state = match (&view.status, view.running, &age) {
        (Some(_), ..) => "running".to_owned(),
        (None, ..) if view.hangs() => format!("does not answer{last}"),
        (None, true, Some(age)) => format!("running, as {peer} heard {age}"),
        (None, true, None) => format!("running, as {peer} says"),
        (None, false, _) => format!("not in reach{last}"),
    };
    let interlink = view.status.as_ref().map_or_else(|| "-".to_owned(), interlink);
    row([&view.name, &state, &interlink])
}

fn luns(overview: &Overview, config: &Config) -> String {
    let [first, second] = &overview.controllers;
    let on = |view: &View| format!("ON {}", view.name.to_uppercase());
    let in_file = config.luns.iter();
    let mut luns: Vec<Named<'_>> =
        in_file.map(|lun| Named { number: lun.number, name: &lun.name, bytes: lun.bytes }).collect();
    let others = not_in_the_file(config, &overview.controllers);
    luns.extend(others.into_iter().map(|(number, name)| Named { number, name, bytes: None }));
    let reservation = |lun: &Named<'_>| {
        overview.controllers.iter().find_map(|view| lun.on(view)?.lun.reservation.as_ref()).map(reserved)
    };
    let any_reserved = luns.iter().any(|lun| reservation(lun).is_some());
    let group =
        |lun: &Named<'_>| overview.controllers.iter().find_map(|view| lun.on(view)?.lun.group.clone());
    let any_group = luns.iter().any(|lun| group(lun).is_some());
    let mut rows = vec![row(["LUN", "NAME", "SIZE", "MAIN", "PAIR", &on(first), &on(second)])];
    if any_group {
        rows[0].push("GROUP".to_owned());
    }
    if any_reserved {
        rows[0].push("RESERVED".to_owned());
    }
    let wwid = |lun: &Named<'_>| overview.controllers.iter().find_map(|view| lun.on(view)?.lun.wwid.clone());
    let any_wwid = luns.iter().any(|lun| wwid(lun).is_some());
    if any_wwid {
        rows[0].push("WWID".to_owned());
    }
    let hidden = luns.len().saturating_sub(LUNS_SHOWN_MAX);
    if hidden > 0 {
        luns.sort_by_key(|lun| is_well(overview, lun));
    }
    let rest_is_well = luns.iter().skip(LUNS_SHOWN_MAX).all(|lun| is_well(overview, lun));
    for lun in luns.iter().take(LUNS_SHOWN_MAX) {
        let mut cells = lun_row(overview, lun);
        if any_group {
            cells.push(group(lun).unwrap_or_else(|| "-".to_owned()));
        }
        if any_reserved {
            cells.push(reservation(lun).unwrap_or_else(|| "-".to_owned()));
        }
        if any_wwid {
            cells.push(wwid(lun).unwrap_or_else(|| "-".to_owned()));
        }
        rows.push(cells);
    }
    let mut text = table::render(&rows);
    if hidden > 0 {
        let well = if rest_is_well { ", served by both" } else { "" };
        text.push_str(&format!("and {hidden} more{well}; {ALL}\n"));
    }
    text
}

/// Nothing to be said about it: both copies whole, served by both.
fn is_well(overview: &Overview, lun: &Named<'_>) -> bool {
    overview.controllers.iter().all(|view| {
        lun.on(view).is_some_and(|Seen { lun, current }| {
            let whole = matches!(lun.status, PairStatus::Duplex | PairStatus::Simplex);
            current && whole && lun.serving && lun.reason.is_none()
        })
    })
}

fn lun_row(overview: &Overview, lun: &Named<'_>) -> Vec<String> {
    let seen: Vec<Seen<'_>> = overview.controllers.iter().filter_map(|view| lun.on(view)).collect();
    let any = seen.iter().max_by_key(|seen| seen.current).map(|seen| seen.lun);
    let any = seen.iter().find(|seen| seen.current).map(|seen| seen.lun).or(any);
    let bytes = any.map(|status| status.bytes).filter(|bytes| *bytes > 0).or(lun.bytes);
    let size = bytes.map_or_else(|| "-".to_owned(), in_units);
    let main = any.map_or("-", |status| &status.main);
    let current: Vec<&LunStatus> = seen.iter().filter(|seen| seen.current).map(|seen| seen.lun).collect();
    let pair = any.map_or_else(|| "-".to_owned(), |status| pair(status, &current));
    let mut cells = row([&lun.number.to_string(), lun.name, &size, main, &pair]);
    cells.extend(
        overview.controllers.iter().map(|view| lun.on(view).map_or_else(|| "-".to_owned(), on_controller)),
    );
    cells
}

/// Which hosts are logged in where.
fn hosts(overview: &Overview) -> String {
    if overview.controllers.iter().all(|view| view.status.is_none()) {
        return String::new();
    }
    let mut rows = vec![row(["HOST", "ON", "PORTAL", "FROM", "SINCE", "IN FLIGHT"])];
    let mut more = String::new();
    for view in &overview.controllers {
        let (named, count) = view.hosts();
        rows.extend(named.iter().take(HOSTS_SHOWN_MAX).map(|host| host_row(host, &view.name)));
        let hidden = count.saturating_sub(named.len().min(HOSTS_SHOWN_MAX));
        if hidden > 0 {
            more.push_str(&format!("and {hidden} more on {}; {}\n", view.name, all_of(named, count)));
        }
    }
    if rows.len() == 1 { "No host is logged in.\n".to_owned() } else { table::render(&rows) + &more }
}

fn explained(overview: &Overview) -> String {
    let mut text: String = overview.warnings.iter().map(|warning| wrapped("-", warning)).collect();
    if overview.problems.is_empty() {
        return text + "All is well.\n";
    }
    text.extend(overview.problems.iter().take(PROBLEMS_SHOWN_MAX).map(|problem| wrapped("!", problem)));
    let hidden = overview.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
    if hidden > 0 {
        text.push_str(&format!("and {hidden} more; {ALL}\n"));
    }
    text
}

/// Where the hosts that are not shown are named.
fn all_of(named: &[HostStatus], count: usize) -> String {
    if named.len() == count {
        ALL.to_owned()
    } else {
        "`twinlun status` on its machine names them".to_owned()
    }
}

/// A problem after its exclamation mark, a warning after its dash, in lines of [`COLUMNS_MAX`] columns.
fn wrapped(mark: &str, problem: &str) -> String {
    let (mut text, mut columns) = (mark.to_owned(), 1);
    for word in problem.split(' ') {
        let length = word.chars().count();
        if columns + 1 + length > COLUMNS_MAX && columns > 1 {
            text.push_str("\n ");
            columns = 1;
        }
        text.push(' ');
        text.push_str(word);
        columns += 1 + length;
    }
    text + "\n"
}

fn host_row(host: &HostStatus, controller: &str) -> Vec<String> {
    let mut name = printable(&host.initiator);
    if !host.alias.is_empty() {
        name.push_str(&format!(" ({})", printable(&host.alias)));
    }
    let commands = host.commands.to_string();
    row([&name, controller, &host.portal, &host.address, &ago(host.seconds), &commands])
}

/// What an initiator calls itself, cut, and without what would move the cursor.
fn printable(name: &str) -> String {
    let shown = name.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut text: String = shown.take(NAME_CHARACTERS_MAX).collect();
    if name.chars().nth(NAME_CHARACTERS_MAX).is_some() {
        text.push_str("...");
    }
    text
}

/// A span of time in one or two units.
pub(super) fn for_how_long(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// When something was that is so many seconds old.
fn ago(seconds: u64) -> String {
    if seconds < 2 { "just now".to_owned() } else { format!("{} ago", for_how_long(seconds)) }
}

/// A sanitize operation: how far it is, the greater of what the two say.
fn sanitized(current: &[&LunStatus]) -> String {
    let farthest =
        current.iter().filter_map(|lun| lun.sanitize.as_ref()).max_by_key(|one| (one.pass, one.percent));
    match farthest {
        None => String::new(),
        Some(one) => {
            let what = match one.method.as_deref() {
                Some("format") => "format".to_owned(),
                Some(method) if !one.failed => format!("sanitize ({method})"),
                _ => "sanitize".to_owned(),
            };
            let percent = one.percent.map_or_else(String::new, |percent| format!(" {percent} %"));
            format!(", {what}{}", if one.failed { " failed" } else { &percent })
        }
    }
}

fn reserved(reservation: &ReservationStatus) -> String {
    let shown: Vec<String> =
        reservation.holders.iter().take(HOLDERS_SHOWN_MAX).map(|holder| printable(holder)).collect();
    let more = reservation.holders.len().saturating_sub(HOLDERS_SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}: {}{more}", reservation.kind, shown.join(", "))
}

pub(in crate::cli) fn interlink(status: &ControllerStatus) -> String {
    let encrypted = if status.interlink.encrypted { ", encrypted" } else { "" };
    match (status.interlink.up, &status.interlink.reason) {
        (true, _) if status.interlink.bridges == 1 => format!("up, 1 bridge{encrypted}"),
        (true, _) => format!("up, {} bridges{encrypted}", status.interlink.bridges),
        (false, Some(reason)) => format!("down: {reason}"),
        (false, None) => "down".to_owned(),
    }
}

/// The pair status in the words of the documentation.
pub(in crate::cli) const fn word(status: PairStatus) -> &'static str {
    match status {
        PairStatus::Simplex => "simplex",
        PairStatus::Copy => "copy",
        PairStatus::Duplex => "duplex",
        PairStatus::Split => "split",
        PairStatus::Suspended => "suspended",
    }
}

/// The pair status, and how far a copy is: the greater of what the two say is the later.
fn pair(status: &LunStatus, current: &[&LunStatus]) -> String {
    let farthest = current
        .iter()
        .filter(|lun| lun.status == PairStatus::Copy)
        .filter_map(|lun| Some((lun.copied_percent?, lun.copy_seconds_left)))
        .max_by_key(|(percent, _)| *percent);
    let (percent, left) = farthest.map_or((None, None), |(percent, left)| (Some(percent), left));
    progress(status.status, percent, left) + &sanitized(current)
}

/// The pair status, and how far a copy is: in percent, and the seconds it still takes.
pub(in crate::cli) fn progress(status: PairStatus, percent: Option<u8>, left: Option<u64>) -> String {
    let word = word(status);
    match (status, percent, left) {
        (PairStatus::Copy, Some(percent), Some(left)) => {
            format!("{word} {percent} %, {} left", for_how_long(left))
        }
        (PairStatus::Copy, Some(percent), None) => format!("{word} {percent} %"),
        _ => word.to_owned(),
    }
}

fn on_controller(seen: Seen<'_>) -> String {
    let serving = if seen.lun.serving { "serving" } else { "refusing" };
    if !seen.current {
        return format!("was {serving}");
    }
    match seen.lun.commands {
        0 => serving.to_owned(),
        commands => format!("{serving}, {commands} in flight"),
    }
}
