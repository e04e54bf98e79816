package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"weir/alerts"
	"weir/pipeline"
)

const verifyHelp = `Usage: weir verify [flags] ALERT.json INPUT...
       weir verify [flags] ALERT.json --store weir.db

Recomputes stored alerts from their input and compares them bit for bit: that
nobody changed an alert, or the log behind it. ALERT.json holds alerts one a line,
as weir analyze --output json and the API write them; - is standard input. Left
out are envelope and exemplars[].source, which say nothing of what happened.

  weir analyze --edition-out e.json --output json access.log > alerts.jsonl
  weir verify --edition e.json alerts.jsonl access.log

The same version of weir, configuration (-c) and edition are needed; the alert
names them in its versions.

Flags:
  --edition FILE       the edition that the alerts were made with
  --store FILE         take the requests that weir run stored, instead of inputs
  -c FILE              configuration
  --format NAME, --log-format STRING, --tz ZONE   as for weir analyze

Exit: 0 all are as recomputed; 1 one is not; 2 usage.
`

const maxVerified = 256 << 20

func runVerify(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	f := replayFlags{asStored: true}
	fs := flag.NewFlagSet("verify", flag.ContinueOnError)
	f.add(fs)
	rest, code, done := parseFlags(fs, verifyHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) == 0 || len(rest) == 1 && f.store == "" {
		fmt.Fprintf(stderr, "weir verify: give the file of alerts and the input they came from (weir verify --help)\n")
		return exitUsage
	}
	limitMemory()
	if err := verify(ctx, stdout, f, rest[0], rest[1:], stdin); err != nil {
		fmt.Fprintf(stderr, "weir verify: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// claim is an alert to be recomputed.
type claim struct {
	line   int
	key    revision
	bytes  []byte // what is compared
	alert  pipeline.Alert
	state  string // "" not met yet
	differ string
}

type revision struct {
	id string
	n  int
}

func verify(ctx context.Context, stdout io.Writer, f replayFlags, file string, inputs []string, stdin io.Reader) error {
	claims, err := readClaims(file, stdin)
	if err != nil {
		return err
	}
	if file == "-" {
		stdin = bytes.NewReader(nil)
	}
	p, err := openReplay(ctx, f, inputs, stdin)
	if err != nil {
		return err
	}
	defer p.close()
	byKey := map[revision][]*claim{}
	for i := range claims {
		byKey[claims[i].key] = append(byKey[claims[i].key], &claims[i])
	}
	var failed error
	if _, err := p.run(ctx, nil, nil, func(a *pipeline.Alert) {
		for _, c := range byKey[revision{a.ID, a.Revision}] {
			if c.state == "same" {
				continue
			}
			// With names in clear, as analyze prints it, or with their tokens.
			for _, form := range []pipeline.Alert{p.shown(*a), *a} {
				got, err := compared(alerts.AppendJSON(nil, &form))
				if err != nil {
					failed = errors.Join(failed, err)
				}
				if bytes.Equal(got, c.bytes) {
					c.state = "same"
					break
				}
				c.state = "differs"
				if c.differ == "" {
					c.differ = firstDifference(c.bytes, got)
				}
			}
		}
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	var errs []error
	for i := range claims {
		c := &claims[i]
		switch c.state {
		case "same":
			fmt.Fprintf(stdout, "%s revision %d: as recomputed\n", c.key.id, c.key.n)
		case "differs":
			errs = append(errs, fmt.Errorf("line %d: %s revision %d is not what the input gives: %s", c.line, printable(c.key.id), c.key.n, c.differ))
		default:
			errs = append(errs, fmt.Errorf("line %d: the input gives no alert %s revision %d%s", c.line, printable(c.key.id), c.key.n, p.mismatch(&c.alert)))
		}
	}
	return errors.Join(errs...)
}

// mismatch says what of the circumstances is not as the alert names it.
func (p *replay) mismatch(a *pipeline.Alert) string {
	switch v := a.Versions; {
	case v.Weir != version:
		return fmt.Sprintf("; it was made by weir %s, this is %s", printable(v.Weir), version)
	case v.Config != p.cfg.hash():
		return fmt.Sprintf("; it was made under configuration %s, this is %s (-c)", printable(v.Config), p.cfg.hash())
	case p.edition != nil && v.Edition != p.edition.Hash():
		return fmt.Sprintf("; it was made with edition %s, this is %s (--edition)", printable(v.Edition), p.edition.Hash())
	}
	return ""
}

func readClaims(file string, stdin io.Reader) (claims []claim, err error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxVerified+1))
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	if len(data) > maxVerified {
		return nil, fmt.Errorf("read alerts: more than %d MiB", maxVerified>>20)
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		c := claim{line: n}
		if err := json.Unmarshal(line, &c.alert); err != nil {
			return nil, fmt.Errorf("read alerts, line %d: %w", n, err)
		}
		if c.alert.Schema != pipeline.AlertSchema || c.alert.ID == "" {
			return nil, fmt.Errorf("read alerts, line %d: it is no %s, one a line", n, pipeline.AlertSchema)
		}
		if c.bytes, err = compared(line); err != nil {
			return nil, fmt.Errorf("read alerts, line %d: %w", n, err)
		}
		c.key = revision{c.alert.ID, c.alert.Revision}
		claims = append(claims, c)
	}
	if len(claims) == 0 {
		return nil, errors.New("read alerts: there is none")
	}
	return claims, nil
}

// compared is an alert's JSON with null for what is left out of comparisons:
// the value of envelope, and of source in every exemplar. Everything else stays
// byte for byte but spaces between values.
func compared(line []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, line); err != nil {
		return nil, err
	}
	in := b.Bytes()
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	var out []byte
	kept := 0
	// blank replaces the value that d is before.
	blank := func() error {
		from := int(d.InputOffset()) + 1 // behind the colon
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return err
		}
		out = append(append(out, in[kept:from]...), "null"...)
		kept = int(d.InputOffset())
		return nil
	}
	// object reads members up to the end of an object.
	object := func(member func(name string) (taken bool, err error)) error {
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			return errors.Join(err, errors.New("an object belongs there"))
		}
		for d.More() {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := t.(string)
			taken, err := member(name)
			if err != nil {
				return err
			}
			if !taken {
				var v json.RawMessage
				if err := d.Decode(&v); err != nil {
					return err
				}
			}
		}
		_, err := d.Token()
		return err
	}
	err := object(func(name string) (bool, error) {
		switch name {
		case "envelope":
			return true, blank()
		case "exemplars":
			if t, err := d.Token(); err != nil || t != json.Delim('[') {
				return true, errors.Join(err, errors.New("exemplars is no list"))
			}
			for d.More() {
				if err := object(func(name string) (bool, error) {
					if name == "source" {
						return true, blank()
					}
					return false, nil
				}); err != nil {
					return true, err
				}
			}
			_, err := d.Token()
			return true, err
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return append(out, in[kept:]...), nil
}

// firstDifference shows where two texts part.
func firstDifference(have, want []byte) string {
	i := 0
	for i < len(have) && i < len(want) && have[i] == want[i] {
		i++
	}
	cut := func(b []byte) string { return printable(string(b[max(0, min(len(b), i)-24):min(len(b), i+24)])) }
	return fmt.Sprintf("%q, recomputed %q", cut(have), cut(want))
}
