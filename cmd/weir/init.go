package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"weir/collector/capture/mirror"
	"weir/pipeline"
)

const initHelp = `Usage: weir init [flags] LOG > weir.yaml

Looks at a log and writes a commented configuration to standard output: the
format, proxies in front, login endpoints.

Flags:
  --format NAME, --log-format STRING, --tz ZONE   as for weir analyze
`

// initLines is how many requests init looks at.
const initLines = 200_000

func runInit(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var how collectConfig
	fs := flag.NewFlagSet("init", flag.ContinueOnError)
	fs.StringVar(&how.Format, "format", "auto", "")
	fs.StringVar(&how.LogFormat, "log-format", "", "")
	fs.StringVar(&how.Timezone, "tz", "", "")
	rest, code, done := parseFlags(fs, initHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) != 1 {
		fmt.Fprint(stderr, initHelp)
		return exitUsage
	}
	ins, notes, problems, cleanup := openInputs(rest, defaultConfig(), how, stdin)
	defer cleanup()
	if len(problems) > 0 {
		fmt.Fprintf(stderr, "weir init: %v\n", errors.Join(problems...))
		return exitFailed
	}
	seen, err := lookAt(ctx, ins)
	if err != nil {
		fmt.Fprintf(stderr, "weir init: %v\n", err)
		return exitFailed
	}
	seen.write(stdout, rest[0], how, notes)
	return exitOK
}

// sighting is what a look at a log showed.
type sighting struct {
	requests int64
	rejected int64
	users    int64
	sessions int64
	keys     int64
	logins   map[string]*loginSeen
	notice   string
	line     string
	doors    entrances
}

type loginSeen struct {
	attempts int64
	statuses map[uint16]int64
}

// maxLogins bounds the login endpoints that init names.
const maxLogins = 64

func lookAt(ctx context.Context, ins []input) (*sighting, error) {
	keys, err := pipeline.PublicKeys()
	if err != nil {
		return nil, err
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), keys, nil)
	if err != nil {
		return nil, err
	}
	s := &sighting{logins: map[string]*loginSeen{}, doors: newEntrances()}
	watch := pipeline.NewProxyWatch()
	for _, in := range ins {
		r := in.open(id, 1, nil)
		for s.requests < initLines {
			b, err := r.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.Close()
				return nil, err
			}
			for i := range b.Requests {
				watch.Observe(&b.Requests[i])
				s.add(&b.Requests[i])
			}
			for _, n := range b.Rejects.Reason {
				s.rejected += n
			}
			r.Release(b)
		}
		r.Close()
	}
	s.notice, s.line = watch.Notice()
	return s, nil
}

func (s *sighting) add(r *pipeline.Request) {
	s.requests++
	s.doors.add(r)
	if r.Account != "" {
		s.users++
	}
	if r.Session != "" {
		s.sessions++
	}
	if r.Key != "" {
		s.keys++
	}
	if r.Flags&pipeline.FlagLogin == 0 || r.Method == "" {
		return
	}
	name := strings.Clone(r.Method + " " + r.Path)
	l := s.logins[name]
	if l == nil {
		if len(s.logins) >= maxLogins {
			return
		}
		l = &loginSeen{statuses: map[uint16]int64{}}
		s.logins[name] = l
	}
	l.attempts++
	l.statuses[r.Status]++
}

func (s *sighting) write(w io.Writer, path string, how collectConfig, notes []string) {
	if abs, err := filepath.Abs(path); err == nil && path != "-" {
		path = abs
	}
	fmt.Fprintf(w, "# weir.yaml, written from a look at %d requests (%d lines were no request).\n", s.requests, s.rejected)
	fmt.Fprintf(w, "# Check it with: weir check -c weir.yaml    Start with: weir run -c weir.yaml\n\ncollect:\n")
	for _, n := range notes {
		fmt.Fprintf(w, "  # %s\n", n)
	}
	if mirror.IsCapture(path) {
		fmt.Fprintln(w, "  - capture: {interface: eth0, filter: tcp port 80}   # where such packets pass")
	} else {
		fmt.Fprintf(w, "  - file: %q\n", path)
	}
	if how.LogFormat != "" {
		fmt.Fprintf(w, "    log_format: %q\n", how.LogFormat)
	}
	if how.Timezone != "" {
		fmt.Fprintf(w, "    timezone: %q\n", how.Timezone)
	}
	fmt.Fprintf(w, "    labels: {service: \"\", env: \"\"}   # flow to alerts\n\n")
	s.writeIdentity(w)
	s.writeLogins(w)
	for _, p := range s.doors.found() {
		fmt.Fprintf(w, "# %s\n", p.text())
	}
	fmt.Fprint(w, `
# alerts:
#   sinks:
#     siem: {webhook: {url: "https://siem.example/hook", secret_file: /etc/weir/siem.key}}
#   routes:
#     - {match: {severity: [high, critical]}, to: [siem]}
`)
}

func (s *sighting) writeIdentity(w io.Writer) {
	if s.notice != "" {
		fmt.Fprintf(w, "# %s\n%s\n", strings.ReplaceAll(s.notice, "\n", "\n# "), s.line)
	} else {
		fmt.Fprint(w, "# No proxy in front was noticed. If there is one, name it, or its address is taken\n# for the client:\n# identity: {trusted_proxies: [192.0.2.0/24]}\n")
	}
	has := func(n int64, what, add string) {
		if n == 0 {
			fmt.Fprintf(w, "# The log shows no %s%s.\n", what, add)
		} else {
			fmt.Fprintf(w, "# The log shows a %s on %d of %d requests.\n", what, n, s.requests)
		}
	}
	has(s.users, "user", "; with one, weir names accounts and not only addresses")
	has(s.sessions, "session", "")
	has(s.keys, "API key", "")
}

func (s *sighting) writeLogins(w io.Writer) {
	if len(s.logins) == 0 {
		fmt.Fprint(w, "\n# No login was seen. If there is one, name it:\n# endpoints:\n#   - {match: POST /login, role: login, failure: {status: [401, 403]}}\n")
		return
	}
	names := make([]string, 0, len(s.logins))
	for name := range s.logins {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := s.logins[b].attempts - s.logins[a].attempts; d != 0 {
			return int(d)
		}
		return strings.Compare(a, b)
	})
	fmt.Fprint(w, "\n# Login endpoints, by their names. failure says how a failed login looks; where it\n# is left out, weir goes by the status, or learns what a failure looks like from\n# what people do next.\nendpoints:\n")
	for _, name := range names {
		l := s.logins[name]
		var seen []string
		for status, n := range l.statuses {
			seen = append(seen, fmt.Sprintf("%d × %d", status, n))
		}
		slices.Sort(seen)
		fmt.Fprintf(w, "  - match: %q   # %d attempts: %s\n    role: login\n", name, l.attempts, strings.Join(seen, ", "))
		if l.statuses[401]+l.statuses[403] > 0 {
			fmt.Fprint(w, "    failure: {status: [401, 403]}\n")
		} else {
			fmt.Fprint(w, "    # failure: {or_size: 1900-1920}   # it seems to answer failures with a success code: learned, or give their size\n")
		}
	}
}
