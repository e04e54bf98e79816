package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"weir/console"
)

const configHelp = `Usage: weir config show --url URL --token-file FILE
       weir config diff FILE --url URL --token-file FILE
       weir config backtest FILE [--since T] [--until T] --url URL --token-file FILE
       weir config apply FILE [--backtest ID] --url URL --token-file FILE

The configuration of a weir that runs, as the console's tuning page: show it, see what
FILE would change, try that on what is stored, and apply it. The audit has who did.

  weir config show --url https://weir.example.com:7380 --token-file eva.token > new.yaml
  weir config diff new.yaml --url https://weir.example.com:7380 --token-file eva.token
  weir config backtest new.yaml --url https://weir.example.com:7380 --token-file eva.token
  weir config apply new.yaml --backtest k3v5qd2m7a4x --url https://weir.example.com:7380 --token-file eva.token

show      as its file has it, with marks like '<secret 1>' for secrets: they become the
          secrets again when FILE has them
diff      by path
backtest  alerts gained, lost and moved; at the end its id, for --backtest
apply     writes the file, keeps the one before as .bak, and makes it the configuration
          in force; not when somebody was faster

Flags:
  --since, --until T  of backtest: alerts of this time only (RFC 3339)
  --backtest ID       of apply: what it rests on, for the audit
  --output text|json  what to print (text)
  --list N            of backtest: how many alerts of each kind (20)
  --url URL           the running weir
  --token-file FILE   a token of an engineer; of an analyst for all but apply

Exit: 0 done; 1 failed; 2 usage.
`

// configCommand is one call of weir config.
type configCommand struct {
	since, until, backtest, output string
	list                           int
	stdout, stderr                 io.Writer
	api                            *shellClient
}

func runConfig(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	c := &configCommand{stdout: stdout, stderr: stderr}
	to := shellTarget{}
	fs := flag.NewFlagSet("config", flag.ContinueOnError)
	for name, into := range map[string]*string{
		"url": &to.url, "token-file": &to.tokenFile, "since": &c.since, "until": &c.until, "backtest": &c.backtest,
	} {
		fs.StringVar(into, name, "", "")
	}
	fs.StringVar(&c.output, "output", "text", "")
	fs.IntVar(&c.list, "list", 0, "")
	rest, code, done := parseFlags(fs, configHelp, args, stdout, stderr)
	if done {
		return code
	}
	do := map[string]func(text string) error{"diff": c.diff, "backtest": c.try, "apply": c.apply}
	switch {
	case len(rest) == 0 || len(rest) != map[string]int{"show": 1, "diff": 2, "backtest": 2, "apply": 2}[rest[0]]:
		fmt.Fprint(stderr, configHelp)
		return exitUsage
	case to.url == "":
		fmt.Fprintln(stderr, "weir config: --url says which weir (weir config --help)")
		return exitUsage
	case c.output != "text" && c.output != "json":
		fmt.Fprintf(stderr, "weir config: --output %s: there are text and json\n", c.output)
		return exitUsage
	}
	err := to.open(ctx, func(api *shellClient) error {
		c.api = api
		if rest[0] == "show" {
			return c.show()
		}
		text, err := os.ReadFile(rest[1])
		if err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
		return do[rest[0]](string(text))
	})
	if err != nil {
		fmt.Fprintf(stderr, "weir config %s: %v\n", rest[0], err)
		return exitFailed
	}
	return exitOK
}

func (c *configCommand) show() error {
	var now console.RunningConfig
	if err := c.api.ask(http.MethodGet, "/api/v1/config", nil, &now); err != nil {
		return err
	}
	if c.output == "json" {
		return c.json(now)
	}
	_, err := io.WriteString(c.stdout, now.YAML)
	return err
}

func (c *configCommand) json(v any) error {
	body, err := json.Marshal(v)
	return errors.Join(err, jsonLinesTo(c.stdout, []json.RawMessage{body}))
}

func (c *configCommand) diff(text string) error {
	var d struct {
		Changes []configChange `json:"changes"`
	}
	if err := c.api.ask(http.MethodPost, "/api/v1/config/diff", map[string]string{"yaml": text}, &d); err != nil {
		return err
	}
	if c.output == "json" {
		return c.json(d)
	}
	writeChanges(c.stdout, d.Changes)
	if len(d.Changes) == 0 {
		fmt.Fprintln(c.stderr, "nothing differs from the configuration in force")
	}
	return nil
}

// tryEvery is how often a backtest is asked how far it is.
const tryEvery = 500 * time.Millisecond

// try backtests over the API.
func (c *configCommand) try(text string) error {
	body := map[string]string{"config": text}
	if c.since != "" {
		body["since"] = c.since
	}
	if c.until != "" {
		body["until"] = c.until
	}
	var v struct {
		ID       string  `json:"id"`
		State    string  `json:"state"`
		Progress float64 `json:"progress"`
		Error    string  `json:"error"`
		backtestResult
	}
	if err := c.api.ask(http.MethodPost, "/api/v1/backtests", body, &v); err != nil {
		return err
	}
	id, told := v.ID, time.Now()
	for v.State = "running"; v.State == "running"; {
		select {
		case <-time.After(tryEvery):
		case <-c.api.ctx.Done():
			return c.api.ctx.Err()
		}
		if err := c.api.ask(http.MethodGet, "/api/v1/backtests/"+url.PathEscape(id), nil, &v); err != nil {
			return err
		}
		if v.State == "running" && time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Fprintf(c.stderr, "%3.0f %%\n", 100*v.Progress)
		}
	}
	switch {
	case v.State != "done":
		return fmt.Errorf("the backtest %s: %s", v.State, v.Error)
	case c.output == "json":
		return c.json(v)
	}
	if err := v.writeText(c.stdout, c.list); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "to apply it: weir config apply FILE --backtest %s\n", printable(id))
	return nil
}

func (c *configCommand) apply(text string) error {
	var now console.RunningConfig
	if err := c.api.ask(http.MethodGet, "/api/v1/config", nil, &now); err != nil {
		return err
	}
	var done struct {
		Config  console.RunningConfig `json:"config"`
		Restart string                `json:"restart"`
	}
	body := map[string]string{"yaml": text, "if_hash": now.Hash}
	if c.backtest != "" {
		body["backtest"] = c.backtest
	}
	if err := c.api.ask(http.MethodPost, "/api/v1/config/apply", body, &done); err != nil {
		return err
	}
	if c.output == "json" {
		return c.json(done)
	}
	fmt.Fprintln(c.stdout, done.Config.Hash)
	if done.Restart != "" {
		fmt.Fprintln(c.stderr, printable(done.Restart))
	}
	return nil
}
