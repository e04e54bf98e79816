// What the classifications are called. The texts are the catalogues' own titles.
const attack: Record<string, string> = {
  T1083: "File and Directory Discovery", T1087: "Account Discovery", "T1087.004": "Account Discovery: Cloud Account", T1110: "Brute Force",
  "T1110.001": "Brute Force: Password Guessing", "T1110.003": "Brute Force: Password Spraying", "T1110.004": "Brute Force: Credential Stuffing",
  T1078: "Valid Accounts", T1119: "Automated Collection", T1190: "Exploit Public-Facing Application", T1213: "Data from Information Repositories",
  T1498: "Network Denial of Service", T1499: "Endpoint Denial of Service", "T1499.002": "Endpoint Denial of Service: Service Exhaustion Flood",
  "T1499.003": "Endpoint Denial of Service: Application Exhaustion Flood", T1528: "Steal Application Access Token", T1550: "Use Alternate Authentication Material",
  "T1550.001": "Use Alternate Authentication Material: Application Access Token", "T1550.004": "Use Alternate Authentication Material: Web Session Cookie",
  T1552: "Unsecured Credentials", "T1552.001": "Unsecured Credentials: Credentials In Files", T1589: "Gather Victim Identity Information",
  "T1589.001": "Gather Victim Identity Information: Credentials", "T1589.002": "Gather Victim Identity Information: Email Addresses",
  T1530: "Data from Cloud Storage", T1595: "Active Scanning", "T1595.002": "Active Scanning: Vulnerability Scanning", "T1595.003": "Active Scanning: Wordlist Scanning",
  T1586: "Compromise Accounts", T1539: "Steal Web Session Cookie", T1567: "Exfiltration Over Web Service", T1041: "Exfiltration Over C2 Channel", T1592: "Gather Victim Host Information", T1593: "Search Open Websites/Domains", T1594: "Search Victim-Owned Websites",
};
const owasp: Record<string, string> = {
  "API1:2023": "Broken Object Level Authorization", "API2:2023": "Broken Authentication", "API3:2023": "Broken Object Property Level Authorization",
  "API4:2023": "Unrestricted Resource Consumption", "API5:2023": "Broken Function Level Authorization", "API6:2023": "Unrestricted Access to Sensitive Business Flows",
  "API7:2023": "Server Side Request Forgery", "API8:2023": "Security Misconfiguration", "API9:2023": "Improper Inventory Management", "API10:2023": "Unsafe Consumption of APIs",
};
const oat: Record<string, string> = {
  "OAT-004": "Fingerprinting", "OAT-007": "Credential Cracking", "OAT-008": "Credential Stuffing", "OAT-011": "Scraping", "OAT-014": "Vulnerability Scanning",
  "OAT-015": "Denial of Service", "OAT-018": "Footprinting", "OAT-019": "Account Creation", "OAT-002": "Token Cracking", "OAT-006": "Expediting", "OAT-021": "Denial of Inventory",
};

export const classText = (id: string) => attack[id] ?? owasp[id] ?? oat[id] ?? "";

const actions: Record<string, string> = {
  "alert.triage": "changed an alert", "alerts.export": "exported alerts", "alerts.bulk": "changed alerts", "names.reveal": "opened account names", "sink.names": "gave a sink clear names",
  "session.create": "signed in", "session.end": "signed out", "user.create": "made a user", "user.change": "changed a user", "user.password": "changed a password", "user.rehash": "a password was hashed anew",
  "token.create": "made a token", "token.revoke": "revoked a token", "suppression.create": "suppressed alerts", "suppression.end": "ended a suppression", "config.apply": "applied a configuration",
  "backtest.start": "tried a configuration", "sink.test": "tested a sink", "sink.replay": "sent dead letters again", "audit.read": "read the audit", "service.start": "weir started", "service.stop": "weir stopped", access: "was refused",
};
/** actionText says what an entry of the audit is about. */
export const actionText = (action: string) => actions[action] ?? action.replaceAll(/[._]/g, " ");

/** agentText is a browser's name and system, as far as a user agent tells; else the agent itself. */
export function agentText(agent: string): string {
  const browser = /(Edg|OPR|Firefox|HeadlessChrome|Chrome|Version)\/(\d+)/.exec(agent);
  if (!agent.startsWith("Mozilla/") || !browser) return agent || "no user agent";
  const names: Record<string, string> = { Edg: "Edge", OPR: "Opera", Version: "Safari", HeadlessChrome: "Chrome without a window" };
  const edge = /(Edg|OPR)\/(\d+)/.exec(agent) ?? browser;
  const system = /Windows|Android|iPhone|iPad|Mac OS X|CrOS|Linux/.exec(agent)?.[0];
  return `${names[edge[1] ?? ""] ?? edge[1]} ${edge[2]}${system ? ` on ${system.replace("Mac OS X", "macOS").replace("CrOS", "ChromeOS")}` : ""}`;
}
