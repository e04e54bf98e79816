// How numbers, times and names are written. Times are the reader's own, with UTC
// where they are pointed at.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 2, maximumSignificantDigits: 3 });

export const integer = (n: number) => whole.format(n);
export const decimal = (n: number) => (Math.abs(n) >= 1000 ? whole.format(n) : short.format(n));

/** plural writes a count with its noun. */
export function plural(n: number, one: string, many = one + "s"): string {
  return `${integer(n)} ${n === 1 ? one : many}`;
}

export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) {
    n /= 1000;
    i++;
  }
  return `${i === 0 || n >= 100 ? whole.format(n) : n.toFixed(1)} ${units[i]}`;
}

/** duration writes seconds as people say them: 40 s, 3 min, 2 h 10 min, 3 d. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  if (s < 48 * 3600) {
    const h = Math.floor(s / 3600);
    const m = Math.round((s % 3600) / 60);
    return m === 0 || m === 60 ? `${h + (m === 60 ? 1 : 0)} h` : `${h} h ${m} min`;
  }
  return `${Math.round(s / 86400)} d`;
}

export function ago(time: string, now: number): string {
  const s = (now - Date.parse(time)) / 1000;
  if (!Number.isFinite(s)) return "";
  if (s < 0) return "in " + duration(-s);
  return s < 5 ? "now" : duration(s) + " ago";
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "2-digit" });

export const clockOf = (time: string) => clock.format(new Date(time));
const dayOfYear = new Intl.DateTimeFormat(undefined, { month: "short", day: "2-digit" });
/** dayOf leaves this year's number out. */
export function dayOf(time: string): string {
  const d = new Date(time);
  return (d.getFullYear() === new Date().getFullYear() ? dayOfYear : day).format(d);
}
export const utcOf = (time: string) => new Date(time).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC").replace(/Z$/, " UTC");

/** odds writes how often harmless traffic would look like this by chance. */
export function odds(oneIn: number, unit: string, basis: string): string {
  const words: [number, string][] = [
    [1e15, "quadrillion"], [1e12, "trillion"], [1e9, "billion"], [1e6, "million"], [1e3, "thousand"],
  ];
  const scale = words.find(([n]) => oneIn >= n);
  const n = scale ? `${short.format(oneIn / scale[0])} ${scale[1]}` : integer(oneIn);
  const what = unit === "client-day" ? "days of a harmless client" : unit + "s";
  return `${basis === "bound" ? "Fewer than one" : "About one"} in ${n} ${what} would look like this by chance.`;
}

/** word writes a name of ours for people: object_miss becomes object miss. */
export const word = (s: string) => s.replaceAll("_", " ");

export function principalText(p: { kind: string; value: string }): string {
  return p.kind === "ip" || p.kind === "endpoint" || p.kind === "" ? p.value : `${p.kind} ${p.value}`;
}

/** shortToken shows enough of a long token to tell two apart. */
export const shortToken = (s: string) => (s.length > 24 ? s.slice(0, 14) + "…" + s.slice(-6) : s);

/** shortTokens is a text with the accounts' tokens in it cut short. */
export const shortTokens = (s: string) => (s.includes("u_") ? s.replace(/u_[A-Za-z0-9_-]{20,}/g, shortToken) : s);
