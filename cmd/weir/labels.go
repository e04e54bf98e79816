package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"weir/pipeline"
)

// Bounds on a labels file: it is input like any other.
const (
	maxLabelLine       = 4 << 20
	maxLabelPrincipals = 4 << 20
)

// Episode is one labelled attack.
type Episode struct {
	ID         string
	Type       string // a detector's name; the part before the dot is its family
	Principals []pipeline.Principal
	Start, End pipeline.Time // both inclusive
	Note       string
}

// Labels is the ground truth of some traffic: what was an attack and which
// clients are known to be harmless. It is read-only once Alias has been called.
type Labels struct {
	Episodes []Episode
	Profiles []string // names of benign profiles, in order of first mention

	index      map[uint64]int32 // principal key → owners
	owners     []labelledOwner
	principals []pipeline.Principal // parallel to owners, as the file names them
}

// labelledOwner is what the labels say of one principal.
type labelledOwner struct {
	episodes []int32
	profile  int32 // -1: in no benign profile
}

// LoadLabels reads the labels file at path, see ReadLabels.
func LoadLabels(path string) (*Labels, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open labels: %w", err)
	}
	defer f.Close()
	l, err := ReadLabels(f)
	if err != nil {
		return nil, fmt.Errorf("read labels %s: %w", path, err)
	}
	return l, nil
}

// ReadLabels reads one label a line: an episode (episode, type, principals,
// start, end) or a benign profile (benign, principals). Other keys are left
// alone, blank lines are skipped. An error names the line.
func ReadLabels(r io.Reader) (*Labels, error) {
	l := &Labels{index: make(map[uint64]int32)}
	seen := make(map[string]int)
	profiles := make(map[string]int32)
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLabelLine)
	n := 0
	for sc.Scan() {
		n++
		if len(strings.TrimSpace(sc.Text())) == 0 {
			continue
		}
		if err := l.add(sc.Bytes(), n, seen, profiles); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("line %d: longer than %d bytes", n+1, maxLabelLine)
		}
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(l.Episodes) == 0 && len(l.Profiles) == 0 {
		return nil, errors.New("no labels: one JSON object a line with \"episode\" or \"benign\" is expected")
	}
	return l, nil
}

// add takes one line. seen and profiles hold what earlier lines named.
func (l *Labels) add(line []byte, n int, seen map[string]int, profiles map[string]int32) error {
	var in struct {
		Episode    string   `json:"episode"`
		Type       string   `json:"type"`
		Benign     string   `json:"benign"`
		Principals []string `json:"principals"`
		Start      string   `json:"start"`
		End        string   `json:"end"`
		Note       string   `json:"note"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	if (in.Episode == "") == (in.Benign == "") {
		return errors.New("exactly one of \"episode\" and \"benign\" is needed")
	}
	if len(in.Principals) == 0 {
		return errors.New("\"principals\" is empty: name at least one, like \"ip:203.0.113.7\"")
	}
	if len(l.owners)+len(in.Principals) > maxLabelPrincipals {
		return fmt.Errorf("more than %d principals", maxLabelPrincipals)
	}
	ps := make([]pipeline.Principal, 0, len(in.Principals))
	for _, s := range in.Principals {
		p, err := parseLabelPrincipal(s)
		if err != nil {
			return err
		}
		ps = append(ps, p)
	}
	if in.Benign != "" {
		i, ok := profiles[in.Benign]
		if !ok {
			i = int32(len(l.Profiles))
			profiles[in.Benign] = i
			l.Profiles = append(l.Profiles, in.Benign)
		}
		for _, p := range ps {
			l.owner(p).profile = i
		}
		return nil
	}
	if first, ok := seen[in.Episode]; ok {
		return fmt.Errorf("episode %q is already on line %d", in.Episode, first)
	}
	seen[in.Episode] = n
	ep, err := newEpisode(in.Episode, in.Type, in.Start, in.End)
	if err != nil {
		return err
	}
	ep.Principals, ep.Note = ps, in.Note
	i := int32(len(l.Episodes))
	l.Episodes = append(l.Episodes, ep)
	for _, p := range ps {
		o := l.owner(p)
		if k := len(o.episodes); k == 0 || o.episodes[k-1] != i {
			o.episodes = append(o.episodes, i)
		}
	}
	return nil
}

func newEpisode(id, typ, start, end string) (Episode, error) {
	if labelFamily(typ) == "" || labelFamily(typ) == typ || strings.ContainsAny(typ, " \t") {
		return Episode{}, fmt.Errorf("episode %q: type %q is no detector name like \"auth.stuffing\"", id, typ)
	}
	s, err := time.Parse(time.RFC3339, start)
	if err != nil {
		return Episode{}, fmt.Errorf("episode %q: start %q is no RFC 3339 time", id, start)
	}
	e, err := time.Parse(time.RFC3339, end)
	if err != nil {
		return Episode{}, fmt.Errorf("episode %q: end %q is no RFC 3339 time", id, end)
	}
	if e.Before(s) {
		return Episode{}, fmt.Errorf("episode %q: end %s is before start %s", id, end, start)
	}
	return Episode{ID: id, Type: typ, Start: pipeline.TimeOf(s), End: pipeline.TimeOf(e)}, nil
}

// parseLabelPrincipal reads "kind:value". An IPv6 address may be one address
// or a /64; both name the /64.
func parseLabelPrincipal(s string) (pipeline.Principal, error) {
	kind, value, ok := strings.Cut(s, ":")
	var k pipeline.PrincipalKind
	if err := k.UnmarshalText([]byte(kind)); err != nil || !ok || k == pipeline.PrincipalNone || value == "" {
		return pipeline.Principal{}, fmt.Errorf("principal %q is not \"kind:value\" with kind ip, session, key, account, subject, cohort or endpoint", s)
	}
	if k == pipeline.PrincipalIP {
		if _, ok := pipeline.ParseAddress(value); !ok {
			return pipeline.Principal{}, fmt.Errorf("principal %q: %q is neither an IP address nor an IPv6 /64", s, value)
		}
	}
	return pipeline.Principal{Kind: k, Value: value}, nil
}

// owner returns what is known of p, adding it when it is new. The pointer is
// valid until the next call.
func (l *Labels) owner(p pipeline.Principal) *labelledOwner {
	k := principalKey(p)
	i, ok := l.index[k]
	if !ok {
		i = int32(len(l.owners))
		l.index[k] = i
		l.owners = append(l.owners, labelledOwner{profile: -1})
		l.principals = append(l.principals, p)
	}
	return &l.owners[i]
}

// Alias makes labels that name accounts, sessions and keys in clear also stand
// for their tokens: token returns the token of a clear value, or "" for none.
// It must come before NewTrafficStats and Evaluate.
func (l *Labels) Alias(token func(kind pipeline.PrincipalKind, value string) string) {
	for i, p := range l.principals {
		switch p.Kind {
		case pipeline.PrincipalSession, pipeline.PrincipalKey, pipeline.PrincipalAccount, pipeline.PrincipalSubject:
			if t := token(p.Kind, p.Value); t != "" {
				k := principalKey(pipeline.Principal{Kind: p.Kind, Value: t})
				if _, taken := l.index[k]; !taken {
					l.index[k] = int32(i)
				}
			}
		}
	}
}

// principalKey is the identity of p for labels: addresses by owner (IPv6 by
// /64), a subject is an account.
func principalKey(p pipeline.Principal) uint64 {
	if p.Kind == pipeline.PrincipalSubject {
		p.Kind = pipeline.PrincipalAccount
	}
	return p.Hash()
}

// labelFamily is the part of a detector's name before the dot.
func labelFamily(detector string) string {
	f, _, _ := strings.Cut(detector, ".")
	return f
}
