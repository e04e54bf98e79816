// One way to ask the API: same origin, with the session's cookie, and for what
// changes something the token against forged requests.

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly requestId: string,
    readonly body: Record<string, unknown> = {},
  ) {
    super(detail || title);
    this.name = "Problem";
  }
}

/** isMissing tells that this weir has no such part; what needs it is hidden. */
export const isMissing = (e: unknown) => e instanceof Problem && (e.status === 404 || e.status === 405 || e.status === 501);

let csrf = "";
export const setCsrf = (token: string) => void (csrf = token);

const signedOut = new Set<() => void>();
/** onSignedOut calls f when an answer says that nobody is signed in any more. */
export function onSignedOut(f: () => void) {
  signedOut.add(f);
  return () => void signedOut.delete(f);
}

export interface Options {
  method?: string;
  query?: Record<string, string | number | boolean | null | undefined>;
  body?: unknown;
  ifMatch?: number;
  signal?: AbortSignal;
  quiet?: boolean; // a 401 is an answer here, not the end of a session
}

export function urlOf(path: string, query: Options["query"] = {}): string {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") q.set(name, String(value));
  }
  const text = q.toString();
  return text ? `${path}?${text}` : path;
}

const pause = (ms: number, signal?: AbortSignal) =>
  new Promise<void>((done, fail) => {
    const t = setTimeout(done, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(t);
      fail(signal.reason as Error);
    });
  });

async function send(path: string, o: Options): Promise<Response> {
  const method = o.method ?? "GET";
  const headers: Record<string, string> = { Accept: "application/json" };
  if (o.body !== undefined) headers["Content-Type"] = "application/json";
  if (o.ifMatch !== undefined) headers["If-Match"] = `"${o.ifMatch}"`;
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  return fetch(urlOf(path, o.query), {
    method,
    headers,
    credentials: "same-origin",
    body: o.body === undefined ? undefined : JSON.stringify(o.body),
    signal: o.signal,
  });
}

async function problemOf(answer: Response): Promise<Problem> {
  let body: Record<string, unknown> = {};
  try {
    body = (await answer.json()) as Record<string, unknown>;
  } catch {
    // A proxy in front answers in its own words.
  }
  const text = (name: string) => (typeof body[name] === "string" ? body[name] : "");
  return new Problem(answer.status, text("title") || answer.statusText, text("detail"), text("request_id"), body);
}

/** ask returns the answer's JSON; it waits once where the answer says when to come back. */
export async function ask<T>(path: string, o: Options = {}): Promise<T> {
  let answer: Response;
  try {
    answer = await send(path, o);
    const retry = Number(answer.headers.get("Retry-After"));
    if ((answer.status === 429 || answer.status === 503) && retry > 0 && retry <= 10 && !o.quiet) {
      await pause(retry * 1000, o.signal);
      answer = await send(path, o);
    }
  } catch (e) {
    if (o.signal?.aborted) throw e;
    throw new Problem(0, "No answer", "weir does not answer; is it running, and is the network up?", "");
  }
  if (!answer.ok) {
    const problem = await problemOf(answer);
    if (answer.status === 401 && !o.quiet) for (const f of signedOut) f();
    throw problem;
  }
  if (answer.status === 204) return undefined as T;
  return (await answer.json()) as T;
}

/** download fetches what becomes a file here. */
export async function download(path: string, query: Options["query"], name: string) {
  const answer = await send(path, { query });
  if (!answer.ok) throw await problemOf(answer);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
