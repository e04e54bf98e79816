// What changed between two texts, by lines.
export interface Line {
  kind: "same" | "gone" | "new";
  text: string;
}

/** diff uses the longest common subsequence; texts are configurations, not books. */
export function diff(before: string, after: string): Line[] {
  const a = before.split("\n");
  const b = after.split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const x = a.slice(head, a.length - tail);
  const y = b.slice(head, b.length - tail);
  const table = Array.from({ length: x.length + 1 }, () => new Uint32Array(y.length + 1));
  const at = (i: number, j: number) => table[i]?.[j] ?? 0;
  for (let i = x.length - 1; i >= 0; i--) {
    const row = table[i];
    if (!row) continue;
    for (let j = y.length - 1; j >= 0; j--) row[j] = x[i] === y[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  }
  const out: Line[] = a.slice(0, head).map((text) => ({ kind: "same", text }));
  let i = 0;
  let j = 0;
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      out.push({ kind: "same", text: x[i] ?? "" });
      i++;
      j++;
    } else if (j >= y.length || (i < x.length && at(i + 1, j) >= at(i, j + 1))) out.push({ kind: "gone", text: x[i++] ?? "" });
    else out.push({ kind: "new", text: y[j++] ?? "" });
  }
  return [...out, ...a.slice(a.length - tail).map((text): Line => ({ kind: "same", text }))];
}

/** near keeps what changed and so many lines around it; null stands for what is left out. */
export function near(lines: Line[], around: number): (Line | null)[] {
  const keep = lines.map(() => false);
  lines.forEach((l, i) => {
    if (l.kind !== "same") for (let k = Math.max(0, i - around); k <= Math.min(lines.length - 1, i + around); k++) keep[k] = true;
  });
  const out: (Line | null)[] = [];
  lines.forEach((l, i) => {
    if (keep[i]) out.push(l);
    else if (out.at(-1) !== null) out.push(null);
  });
  return out;
}
