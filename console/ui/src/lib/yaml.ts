// One value of a configuration, set in its text, so that comments and order stay.

/** withMode is text with detect.NAME.mode set; weir says afterwards what really changed. */
export function withMode(text: string, name: string, mode: string): string {
  const entry = `${name}: {mode: ${mode}}`;
  const lines = text.replace(/\s*$/, "").split("\n");
  const head = lines.findIndex((l) => /^detect:/.test(l));
  if (head < 0) return `${lines.join("\n")}\ndetect:\n  ${entry}\n`.replace(/^\n/, "");
  const flow = /^detect:\s*\{(.*)\}(\s*(#.*)?)$/.exec(lines[head] ?? "");
  if (flow) {
    lines[head] = `detect: {${inFlow(flow[1] ?? "", name, entry, mode)}}${flow[2] ?? ""}`;
    return lines.join("\n") + "\n";
  }
  let end = head + 1;
  while (end < lines.length && (/^\s/.test(lines[end] ?? "") || /^\s*(#.*)?$/.test(lines[end] ?? ""))) end++;
  const own = escape(name);
  const at = lines.findIndex((l, i) => i > head && i < end && new RegExp(`^\\s+["']?${own}["']?:`).test(l));
  if (at < 0) {
    const child = lines.slice(head + 1, end).find((l) => /^\s+\S/.test(l) && !/^\s*#/.test(l));
    lines.splice(head + 1, 0, (/^\s+/.exec(child ?? "")?.[0] ?? "  ") + entry);
    return lines.join("\n") + "\n";
  }
  const line = lines[at] ?? "";
  const value = /^(\s+)(["']?[^:]+["']?):\s*(.*)$/.exec(line);
  const indent = value?.[1] ?? "  ";
  if (/^\{.*\}/.test(value?.[3] ?? "")) lines[at] = line.replace(/\{.*\}/, (b) => `{${put(b.slice(1, -1), mode)}}`);
  else {
    let k = at + 1;
    let found = -1;
    for (; k < end && (/^\s*(#.*)?$/.test(lines[k] ?? "") || (/^\s+/.exec(lines[k] ?? "")?.[0].length ?? 0) > indent.length); k++) if (/^\s+mode:/.test(lines[k] ?? "")) found = k;
    if (found >= 0) lines[found] = (lines[found] ?? "").replace(/mode:\s*[^\s#]+/, `mode: ${mode}`);
    else lines.splice(at + 1, 0, `${indent}  mode: ${mode}`);
  }
  return lines.join("\n") + "\n";
}

const escape = (s: string) => s.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** put sets mode among the members of a flow mapping. */
function put(members: string, mode: string): string {
  if (/(^|[,\s])mode:\s*[^,\s]+/.test(members)) return members.replace(/((?:^|[,\s])mode:\s*)[^,\s]+/, `$1${mode}`);
  return members.trim() ? `mode: ${mode}, ${members.trim()}` : `mode: ${mode}`;
}

function inFlow(members: string, name: string, entry: string, mode: string): string {
  const one = new RegExp(`(["']?${escape(name)}["']?:\\s*)\\{([^{}]*)\\}`);
  if (one.test(members)) return members.replace(one, (_, head: string, m: string) => `${head}{${put(m, mode)}}`);
  return members.trim() ? `${entry}, ${members.trim()}` : entry;
}
