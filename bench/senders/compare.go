package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// result is what became of a front's requests on one way.
type result struct {
	server, way string
	sent        int // that were answered
	written     int // of these, that the server wrote to its file; -1 no file
	stored      int // of these
	twice       int
	others      int // stored, and none of ours: what the server refused to read
	refused     int // that the server refused to read, as the client saw
	fields      map[string]int
	example     map[string]string
}

// read fills the results from what weir stored; list has the requests of every
// way's front.
func read(ctx context.Context, store, keyFile string, ways map[string]*way, list map[string][]*sent, results map[string]*result) error {
	keys, err := pipeline.LoadOrCreatePrivacyKeys(keyFile)
	if err != nil {
		return err
	}
	db, err := sqlite.Open(store, sqlite.Options{ReadOnly: true, Readers: 1})
	if err != nil {
		return err
	}
	defer db.Close()
	seen := map[string]map[int]bool{}
	err = db.Requests(ctx, storage.RequestFilter{Limit: 1 << 24}, func(r *pipeline.Request, source string) bool {
		res := results[source]
		if res == nil {
			return true
		}
		if seen[source] == nil {
			seen[source] = map[int]bool{}
		}
		id, ok := number(r.Path)
		all := list[source]
		switch {
		case !ok || id >= len(all) || all[id].failed || all[id].status == http.StatusBadRequest:
			res.others++
		case seen[source][id]:
			res.twice++
		default:
			seen[source][id] = true
			res.stored++
			res.compare(all[id], r, ways[source], keys)
		}
		return true
	})
	return err
}

// writtenTo counts the answered requests of which a line is in a server's file.
func writtenTo(path string, all []*sent) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	seen := map[int]bool{}
	for line := range strings.Lines(string(text)) {
		id, ok := number(strings.ReplaceAll(line, `\/`, "/"))
		if ok && id < len(all) && !all[id].failed && all[id].status != http.StatusBadRequest {
			seen[id] = true
		}
	}
	return len(seen), nil
}

// number finds a request's number in its path.
func number(path string) (int, bool) {
	for part := range strings.SplitSeq(path, "/") {
		if digits, ok := strings.CutPrefix(part, "r"); ok {
			if n, err := strconv.Atoi(digits); err == nil {
				return n, true
			}
		}
	}
	return 0, false
}

// compare counts the fields in which what is stored differs from what was sent.
func (res *result) compare(s *sent, r *pipeline.Request, w *way, keys *pipeline.PrivacyKeys) {
	f := func(field, got, want string) {
		if got == want {
			return
		}
		res.fields[field]++
		if res.example[field] == "" {
			res.example[field] = fmt.Sprintf("r%d stored %.90q, sent %.90q", s.id, got, want)
		}
	}
	f("method", r.Method, s.method)
	f("path", r.Path, shown(s.path, w))
	f("query", r.Query, string(pipeline.AppendQuery(nil, shown(s.query, w))))
	f("status", strconv.Itoa(int(r.Status)), strconv.Itoa(s.status))
	if want := []int64{s.bytes, s.wire, s.total}[w.size]; w.size != sizeTotal || r.Bytes < s.bytes || r.Bytes > want+haproxySlack {
		f("bytes", strconv.FormatInt(r.Bytes, 10), strconv.FormatInt(want, 10))
	}
	if at := r.Time.Std(); at.Before(s.start.Add(-time.Second)) || at.After(s.end.Add(time.Second)) {
		f("time", at.Format(time.StampMicro), s.end.Format(time.StampMicro))
	}
	address, claim := s.seen(w)
	f("address", r.Address.String(), address)
	if w.forwarded {
		got := ""
		if !r.Forwarded.IsZero() {
			got = r.Forwarded.String()
		}
		f("forwarded", got, claim)
	}
	if w.agent {
		f("agent", r.Agent, absent(shown(s.agent, w)))
	}
	if w.host {
		host, _, _ := strings.Cut(strings.ToLower(s.host), ":")
		f("host", r.Host, host)
	}
	account := ""
	if w.user {
		account = s.user
	}
	if w.told && s.told != "" && s.status != 400 {
		account = s.told
	}
	got := ""
	if r.Account != "" {
		got, _ = keys.Open(r.Account)
	}
	f("user", got, strings.ToLower(account))
	if w.session {
		f("session", strconv.FormatBool(r.Session != ""), strconv.FormatBool(s.session != ""))
	}
	if w.key {
		f("key", strconv.FormatBool(r.Key != ""), strconv.FormatBool(s.key != ""))
	}
	if w.told {
		got := ""
		if r.LoginUser != "" {
			got, _ = keys.Open(r.LoginUser)
		}
		if want := s.tried; want != "" || got != "" && !strings.EqualFold(got, account) { // a refused HTTP login tried its user
			f("login_user", got, want)
		}
	}
}

// seen is the client's address and what an untrusted header claims.
func (s *sent) seen(w *way) (address, claim string) {
	if !w.forwarded || s.forwarded == "" {
		return s.client, ""
	}
	hops := strings.Split(s.forwarded, ",")
	last := strings.TrimSpace(hops[len(hops)-1])
	if a, err := netip.ParseAddrPort(last); err == nil {
		last = a.Addr().String()
	}
	if strings.HasPrefix(s.client, "127.0.9.") { // a trusted proxy: what it was told is a claim
		return last, strings.TrimSpace(hops[0])
	}
	return s.client, last
}

func absent(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// haproxySlack is how much more than went out HAProxy's %B may count.
const haproxySlack = 256

// shown is text as weir stores it: control characters, and high bytes that form
// no UTF-8, are written \xhh, unless the server logs them in its own way.
func shown(s string, w *way) string {
	if w.text != nil {
		s = w.text(s)
	}
	valid := utf8.ValidString(s) || w.text != nil
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c >= 0x80 && !valid {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// rawBytes is text of a server that writes bytes that are no UTF-8 as they are.
func rawBytes(s string) string { return s }

// dropped is text of a server that leaves such bytes out.
func dropped(s string) string { return strings.ToValidUTF8(s, "") }

// replaced is text of a server that writes U+FFFD for each of them.
func replaced(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// write prints the table and one example of each difference; it reports
// whether everything is as it was sent.
func write(w io.Writer, results []*result) (same bool) {
	same = true
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "server\tway\tanswered\twritten\tstored\ttwice\trefused\tof these stored\tdiffering by field")
	for _, r := range results {
		var parts []string
		for field, n := range r.fields {
			parts = append(parts, fmt.Sprintf("%s %d", field, n))
		}
		slices.Sort(parts)
		diff := strings.Join(parts, ", ")
		if diff == "" {
			diff = "none"
		}
		// What the server itself did not write is not weir's to store.
		due, written := r.sent, "-"
		if r.written >= 0 {
			due, written = r.written, strconv.Itoa(r.written)
		}
		same = same && len(parts) == 0 && r.stored == due && r.twice == 0
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%s\n", r.server, r.way, r.sent, written, r.stored, r.twice, r.refused, r.others, diff)
	}
	_ = t.Flush()
	for _, r := range results {
		for _, field := range slices.Sorted(func(yield func(string) bool) {
			for f := range r.example {
				if !yield(f) {
					return
				}
			}
		}) {
			fmt.Fprintf(w, "  %s, %s: %s: %s\n", r.server, r.way, field, r.example[field])
		}
	}
	return same
}
