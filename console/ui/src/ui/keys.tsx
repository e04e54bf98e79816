// What the keys do, and the switch that turns them off.
import { Button, Switch } from "react-aria-components";
import { setPrefs, usePrefs } from "../lib/prefs";

const lists: [string, [string, string][]][] = [
  ["List", [["j, k", "down, up"], ["Shift+j, Shift+k", "select on the way"], ["o, Enter", "open"], ["x, Space", "select"], ["*, Ctrl+A", "select all that match"], ["Esc", "select nothing"], ["r", "show what is new"], ["/", "search"]]],
  ["Alert, and what is selected", [["a", "assign to me"], ["i", "in progress"], ["c", "close with a verdict, then 1 to 7"], ["m", "comment"], ["t", "tags"], ["s", "suppress"], ["u", "take the last action back"], ["j, k", "next, previous alert"], ["Esc", "back to the list"]]],
];

function Table({ title, keys }: { title: string; keys: [string, string][] }) {
  return (
    <div>
      <h3>{title}</h3>
      <dl className="keys">
        {keys.map(([k, text]) => (
          <div key={k + text}>
            <dt>
              <kbd>{k}</kbd>
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

export function Keys({ close, places }: { close: () => void; places: { keys: string; text: string }[] }) {
  const { shortcuts } = usePrefs();
  return (
    <div>
      <Switch className="switch" isSelected={shortcuts} onChange={(v) => setPrefs({ shortcuts: v })}>
        <span className="knob" /> Single keys do something
      </Switch>
      <p className="muted">Arrows, Enter, Space and Tab work either way. Keys rest while you type.</p>
      <div className="key-tables">
        {lists.map(([title, keys]) => (
          <Table key={title} title={title} keys={keys} />
        ))}
        <Table title="Pages" keys={[...places.map((p) => [p.keys, p.text] as [string, string]), ["?", "this"]]} />
      </div>
      <footer>
        <Button className="button primary" onPress={close} autoFocus>
          Done
        </Button>
      </footer>
    </div>
  );
}
