// What the signals of the evidence are called, and what they count.
import { bytes, decimal, word } from "./format";

const signals: Record<string, [text: string, unit: string]> = {
  login_failure: ["failed logins", "logins"],
  login_attempt: ["login attempts", "logins"],
  login_attempts_day: ["login attempts in a day", "logins"],
  login_volume: ["logins in a short time", "logins"],
  accounts_refused: ["accounts that refused it", "accounts"],
  account_login_failure: ["failed logins of the account", "logins"],
  cohort_login_failure: ["failed logins of all of them", "logins"],
  failures_over_usual: ["failed logins over the usual", "logins"],
  stranger_failures: ["failed logins by strangers", "logins"],
  distinct_clients: ["different clients", "clients"],
  foreign_object: ["objects of others", "objects"],
  object_miss: ["objects refused or absent", "objects"],
  near_id: ["ids next to one another", "objects"],
  merged_near_id: ["ids next to one another, all clients", "objects"],
  names_asked: ["accounts asked for", "accounts"],
  account_requests: ["requests about accounts", "requests"],
  unknown_account: ["accounts that do not exist", "accounts"],
  odd_input: ["inputs unlike others", "inputs"],
  attack_shape: ["shapes of attack", "shapes"],
  first_contact_miss: ["paths that are not there", "paths"],
  wordlist_path: ["paths of attackers' wordlists", "paths"],
  distinct_items: ["different items", "items"],
  unpopular_items: ["items that few read", "items"],
  unpopular_new_items: ["new items that few read", "items"],
  page_walk: ["list pages in a row", "pages"],
  false_crawler: ["pretends to be a known crawler", ""],
  readers_over_usual: ["readers over the usual", "readers"],
  bytes_day: ["data taken in a day", "B"],
  bytes_day_growth: ["data a day against its own past", "B"],
  large_response: ["answers larger than usual", "answers"],
  size_parameter: ["largest page asked for", "rows"],
  answer_size: ["size of an answer", "B"],
  clients_refused: ["clients refused", "clients"],
  accounts_locked: ["accounts locked", "accounts"],
  requests_minute: ["requests in a minute", "requests"],
  requests_10_minutes: ["requests in ten minutes", "requests"],
  requests_day_growth: ["requests a day against its own past", "requests"],
  items_day_growth: ["items a day against its own past", "items"],
  listed_address: ["the address is on a list", ""],
  new_place: ["a network it never used", ""],
  new_stack: ["a program it never used", ""],
  new_country: ["a country it never was in", ""],
  unusual_hour: ["an hour unusual for it", ""],
  session_moved: ["the session moved to another program", ""],
  suspicious_client: ["the client is suspicious itself", ""],
  sensitive_action: ["a sensitive action", ""],
  new_reads: ["reads that are new for it", "endpoints"],
  new_writes: ["writes that are new for it", "endpoints"],
  refused_scopes: ["scopes refused", "scopes"],
  everybody_refused: ["refused for everybody: taken out", "requests"],
};

export const signalText = (name: string) => signals[name]?.[0] ?? word(name);

/** amount writes what a signal counted with its unit; a fact is yes or no. */
export function amount(name: string, value: number): string {
  const unit = signals[name]?.[1];
  if (unit === "") return value > 0 ? "yes" : "no";
  if (unit === "B") return bytes(value);
  return unit ? `${decimal(value)} ${value === 1 ? unit.replace(/ies$/, "y").replace(/s$/, "") : unit}` : decimal(value);
}
