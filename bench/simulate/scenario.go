package simulate

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Bounds on a scenario: it is input like any other.
const (
	maxScenario  = 1 << 20
	maxActors    = 10_000
	maxCount     = 1 << 18 // clients of one entry
	maxAddresses = 1 << 19 // of all entries
	maxLength    = 366 * 24 * time.Hour
	maxAccounts  = 1 << 24
	maxItems     = 1 << 24
)

// Scenario is what to simulate. Fields may be changed before Run.
type Scenario struct {
	Name    string
	About   string
	Site    Site
	Start   time.Time
	Length  time.Duration
	Clients int // the size that the counts of Benign are meant for; Resize changes both
	Logs    Logs
	Benign  []Benign
	Attacks []Attack
}

// Site is the API that is called.
type Site struct {
	Kind     string // shop saas public graphql grpc
	Host     string
	Accounts int
	Items    int    // the public catalogue
	Login    string // how a login answers: status size redirect error
	// HideLoginUser leaves the account that a login tries out of the log.
	HideLoginUser bool
	// HideBodies leaves request bodies out of the log: GraphQL and gRPC then do not
	// say what is asked for.
	HideBodies bool
	Soft404    bool // unknown paths answer 200 with a page
}

// Logs is what happens to records on their way.
type Logs struct {
	Late       float64       // share that is written late
	LateBy     time.Duration // at most so much
	Duplicates float64       // share that is written twice
	Skew       time.Duration // clocks of three servers differ by up to this, both ways
}

// Benign is one group of harmless clients.
type Benign struct {
	Name    string // the profile's by default
	Profile string
	Count   int           // clients; what a client is, the profile says
	At      time.Duration // since Start, for what happens once
	For     time.Duration
	Factor  float64 // activity, 1 is ordinary
}

// Attack is one episode.
type Attack struct {
	Name     string
	Type     string
	Variant  string
	Sources  int
	Rate     float64 // requests a second and source
	Start    time.Duration
	Duration time.Duration // 0: until Requests are made
	Requests int           // of all sources; 0: as many as Duration has time for
	Success  float64       // share that gets what it is after; < 0: the type's own
	Canary   float64       // share of logins into accounts of the attacker's own
	Rounds   int           // of spraying
	Every    time.Duration // between rounds
	Network  string        // hosting residential mobile; "": by the number of sources
	Evade    Evade
}

// Evade is how an attack hides.
type Evade struct {
	Jitter    float64 // of the pace: 0.5 is ±50 %; 1 and more: like chance
	Shuffle   bool    // the order of targets
	Stride    int     // every n-th target
	Agents    bool    // another user agent and TLS stack for every request
	Addresses int     // addresses that a source draws from, for every request
	Accounts  int     // accounts that a source takes turns with
	Diurnal   bool    // works when people do
	Ramp      float64 // the rate grows by this share a day
	Own       float64 // share of requests for the attacker's own objects
}

// Resize sets Clients and changes the count of every crowd in proportion, to at
// least one. What is one thing, such as a monitor, stays.
func (s *Scenario) Resize(clients int) {
	old := max(1, s.Clients)
	s.Clients = clients
	s.Benign = slices.Clone(s.Benign)
	for i := range s.Benign {
		b := &s.Benign[i]
		if p, ok := profileNamed(b.Profile); ok && p.crowd {
			n := b.Count
			if n == 0 {
				n = p.count
			}
			b.Count = int(max(1, (int64(n)*int64(clients)+int64(old)/2)/int64(old)))
		}
	}
}

// Load reads a scenario. The error joins every problem, each with its path.
func Load(r io.Reader) (*Scenario, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxScenario+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	if len(data) > maxScenario {
		return nil, fmt.Errorf("read scenario: it is larger than %d bytes", maxScenario)
	}
	var tree yaml.Node
	if err := yaml.Load(data, &tree); err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	s := &Scenario{}
	d := &decoder{}
	root := &tree
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	d.scenario(root, s)
	if len(d.problems) == 0 {
		d.problems = append(d.problems, s.problems()...)
	}
	if err := errors.Join(d.problems...); err != nil {
		return nil, fmt.Errorf("scenario:\n%w", err)
	}
	return s, nil
}

// decoder reads a YAML tree and keeps every problem.
type decoder struct{ problems []error }

func (d *decoder) bad(n *yaml.Node, path, format string, a ...any) {
	if path == "" {
		path = "top level"
	}
	d.problems = append(d.problems, fmt.Errorf("%s (line %d): %s", path, n.Line, fmt.Sprintf(format, a...)))
}

// field reads one member of a mapping.
type field struct {
	name string
	read func(n *yaml.Node, path string)
}

func (d *decoder) mapping(n *yaml.Node, path string, fields ...field) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, path, "want keys and values")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+clip(key.Value), ".")
		j := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		switch {
		case j < 0:
			var known []string
			for _, f := range fields {
				known = append(known, f.name)
			}
			d.bad(key, at, "unknown key; there are %s", strings.Join(known, " "))
		case seen[key.Value]:
			d.bad(key, at, "is given twice")
		default:
			seen[key.Value] = true
			fields[j].read(value, at)
		}
	}
}

func (d *decoder) list(n *yaml.Node, path string, each func(n *yaml.Node, path string)) {
	if n.Kind != yaml.SequenceNode {
		d.bad(n, path, "want a list")
		return
	}
	if len(n.Content) > maxActors {
		d.bad(n, path, "more than %d entries", maxActors)
		return
	}
	for i, e := range n.Content {
		each(e, path+"["+strconv.Itoa(i)+"]")
	}
}

// scalar makes a field of a parser for one value.
func scalar[T any](d *decoder, name string, to *T, parse func(string) (T, error)) field {
	return field{name, func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			d.bad(n, path, "want one value")
			return
		}
		v, err := parse(n.Value)
		if err != nil {
			d.bad(n, path, "%v", err)
			return
		}
		*to = v
	}}
}

func (d *decoder) scenario(n *yaml.Node, s *Scenario) {
	days := 1.0
	d.mapping(n, "",
		scalar(d, "name", &s.Name, text), scalar(d, "about", &s.About, text),
		field{"site", func(n *yaml.Node, path string) { d.site(n, path, &s.Site) }},
		scalar(d, "start", &s.Start, stamp), scalar(d, "days", &days, number), scalar(d, "clients", &s.Clients, whole),
		field{"logs", func(n *yaml.Node, path string) {
			d.mapping(n, path, scalar(d, "late", &s.Logs.Late, share), scalar(d, "late_by", &s.Logs.LateBy, span),
				scalar(d, "duplicates", &s.Logs.Duplicates, share), scalar(d, "skew", &s.Logs.Skew, span))
		}},
		field{"benign", func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) {
				var b Benign
				d.mapping(n, path, scalar(d, "profile", &b.Profile, text), scalar(d, "name", &b.Name, text),
					scalar(d, "count", &b.Count, whole), scalar(d, "at", &b.At, span), scalar(d, "for", &b.For, span),
					scalar(d, "factor", &b.Factor, number))
				s.Benign = append(s.Benign, b)
			})
		}},
		field{"attacks", func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) {
				a := Attack{Success: -1}
				d.attack(n, path, &a)
				s.Attacks = append(s.Attacks, a)
			})
		}},
	)
	if !(days > 0 && days*24 <= maxLength.Hours()) {
		d.bad(n, "days", "%v: want more than 0 and at most 366", days)
		return
	}
	s.Length = time.Duration(days * float64(24*time.Hour)).Truncate(time.Second)
}

func (d *decoder) site(n *yaml.Node, path string, s *Site) {
	if n.Kind == yaml.ScalarNode {
		s.Kind = n.Value
		return
	}
	visible, bodies := true, true
	d.mapping(n, path, scalar(d, "kind", &s.Kind, text), scalar(d, "host", &s.Host, text),
		scalar(d, "accounts", &s.Accounts, whole), scalar(d, "items", &s.Items, whole), scalar(d, "login", &s.Login, text),
		scalar(d, "login_user", &visible, yes), scalar(d, "soft_404", &s.Soft404, yes), scalar(d, "bodies", &bodies, yes))
	s.HideLoginUser, s.HideBodies = !visible, !bodies
}

func (d *decoder) attack(n *yaml.Node, path string, a *Attack) {
	e := &a.Evade
	d.mapping(n, path, scalar(d, "name", &a.Name, text), scalar(d, "type", &a.Type, text), scalar(d, "variant", &a.Variant, text),
		scalar(d, "sources", &a.Sources, whole), scalar(d, "rate", &a.Rate, rate), scalar(d, "start", &a.Start, span),
		scalar(d, "duration", &a.Duration, span), scalar(d, "requests", &a.Requests, whole), scalar(d, "success", &a.Success, share),
		scalar(d, "canary", &a.Canary, share), scalar(d, "rounds", &a.Rounds, whole), scalar(d, "every", &a.Every, span),
		scalar(d, "network", &a.Network, text),
		field{"evade", func(n *yaml.Node, path string) {
			d.mapping(n, path, scalar(d, "jitter", &e.Jitter, number), scalar(d, "shuffle", &e.Shuffle, yes),
				scalar(d, "stride", &e.Stride, whole), scalar(d, "agents", &e.Agents, yes), scalar(d, "addresses", &e.Addresses, whole),
				scalar(d, "accounts", &e.Accounts, whole), scalar(d, "diurnal", &e.Diurnal, yes), scalar(d, "ramp", &e.Ramp, number),
				scalar(d, "own", &e.Own, share))
		}})
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

func text(s string) (string, error) {
	if s == "" || len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		return "", fmt.Errorf("%q: want 1 to 200 characters on one line", clip(s))
	}
	return s, nil
}

func yes(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q: want true or false", clip(s))
}

func whole(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1<<30 {
		return 0, fmt.Errorf("%q: want a whole number from 0 to %d", clip(s), 1<<30)
	}
	return n, nil
}

func number(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 1e6) {
		return 0, fmt.Errorf("%q: want a number from 0 to 1000000", clip(s))
	}
	return v, nil
}

// share reads 0.05 or 5%.
func share(s string) (float64, error) {
	p, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q: want a share like 0.05 or 5%%", clip(s))
	}
	return v, nil
}

func stamp(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() < 1990 || t.Year() > 2200 {
		return time.Time{}, fmt.Errorf("%q: want a time like 2026-03-02T00:00:00Z", clip(s))
	}
	return t.UTC(), nil
}

// span reads 90s, 1h30m, 7d, 1d12h.
func span(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q: want a length of time like 90s, 1h30m or 7d", clip(s))
	var total time.Duration
	rest := s
	if d, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(d, 10, 16)
		if err != nil {
			return 0, bad
		}
		total, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		v, err := time.ParseDuration(rest)
		if err != nil || v < 0 {
			return 0, bad
		}
		total += v
	} else if s == "" {
		return 0, bad
	}
	if total > maxLength || total < 0 {
		return 0, fmt.Errorf("%q: longer than %d days", clip(s), int(maxLength.Hours()/24))
	}
	return total, nil
}

// rate reads 2/s, 30/m, 5/h or 3/d.
func rate(s string) (float64, error) {
	n, unit, _ := strings.Cut(s, "/")
	per := map[string]float64{"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
	v, err := strconv.ParseFloat(n, 64)
	if err != nil || per == 0 || !(v > 0) || v/per > 1e5 {
		return 0, fmt.Errorf("%q: want a rate like 2/s, 30/m, 5/h or 3/d", clip(s))
	}
	return v / per, nil
}

// problems says what is wrong with a scenario, each with its path. Unset fields
// are problems only where they have no default.
func (s *Scenario) problems() (list []error) {
	bad := func(path, format string, a ...any) {
		list = append(list, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, a...)))
	}
	oneOf := func(path, value string, known []string) {
		if !slices.Contains(known, value) {
			bad(path, "%q; there are %s", clip(value), strings.Join(known, " "))
		}
	}
	oneOf("site.kind", s.Site.Kind, Sites())
	if s.Site.Login != "" {
		oneOf("site.login", s.Site.Login, loginWays())
	}
	if s.Site.Accounts > maxAccounts || s.Site.Items > maxItems || s.Site.Accounts < 0 || s.Site.Items < 0 {
		bad("site", "more than %d accounts or %d items", maxAccounts, maxItems)
	}
	if s.Length <= 0 || s.Length > maxLength {
		bad("days", "want more than 0 and at most 366")
	}
	if s.Clients < 0 || s.Clients > maxCount {
		bad("clients", "%d: want at most %d", s.Clients, maxCount)
	}
	if len(s.Benign)+len(s.Attacks) == 0 {
		bad("benign", "nobody to simulate: name a profile or an attack")
	}
	if l := s.Logs; l.LateBy > time.Hour || l.Skew > time.Hour {
		bad("logs", "late_by and skew: at most 1h")
	}
	names := map[string]string{}
	named := func(path, name string) {
		if other := names[name]; other != "" {
			bad(path+".name", "%q is that of %s, too", name, other)
		}
		names[name] = path
	}
	for i := range s.Benign {
		b, path := &s.Benign[i], fmt.Sprintf("benign[%d]", i)
		if _, ok := profileNamed(b.Profile); !ok {
			oneOf(path+".profile", b.Profile, profileNames())
			continue
		}
		named(path, b.name())
		if b.Count > maxCount || b.Count < 0 {
			bad(path+".count", "%d: want at most %d", b.Count, maxCount)
		}
		if b.At >= s.Length && b.At > 0 {
			bad(path+".at", "%v is behind the end", b.At)
		}
		if math.IsNaN(b.Factor) || b.Factor < 0 || b.Factor > 1000 {
			bad(path+".factor", "%v: want at most 1000", b.Factor)
		}
	}
	for i := range s.Attacks {
		a, path := &s.Attacks[i], fmt.Sprintf("attacks[%d]", i)
		kind, ok := attackNamed(a.Type)
		if !ok {
			oneOf(path+".type", a.Type, attackNames())
			continue
		}
		named(path, a.name())
		if a.Variant != "" {
			oneOf(path+".variant", a.Variant, kind.variantNames())
		}
		if a.Network != "" {
			oneOf(path+".network", a.Network, []string{"hosting", "residential", "mobile"})
		}
		if a.Start >= s.Length {
			bad(path+".start", "%v is behind the end", a.Start)
		}
		if a.Sources < 0 || a.Sources > maxCount {
			bad(path+".sources", "%d: want at most %d", a.Sources, maxCount)
		}
		if a.Rate < 0 || a.Rate > 1e5 || math.IsNaN(a.Rate) {
			bad(path+".rate", "want at most 100000/s")
		}
		if e := a.Evade; e.Addresses > maxCount || e.Accounts > 1000 || e.Stride > 1<<20 || e.Ramp > 100 || e.Jitter > 100 {
			bad(path+".evade", "want at most %d addresses, 1000 accounts, a stride of %d, a ramp and jitter of 100", maxCount, 1<<20)
		}
	}
	return list
}

func (b *Benign) name() string {
	if b.Name != "" {
		return b.Name
	}
	return b.Profile
}

func (a *Attack) name() string {
	if a.Name != "" {
		return a.Name
	}
	return strings.ReplaceAll(a.Type, ".", "-")
}
