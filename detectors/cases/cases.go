// Package cases reads the traffic of the detectors' test cases.
//
// A case is testdata/<detector>/attack_*.txtar or benign_*.txtar: its comment
// says what happens, and its files are
//
//	events.log  the traffic
//	learn.log   traffic to learn from, for "edition learned"
//	words       paths for {word}, one a line
//	edition     which editions it runs under; every one must give the same:
//	            shipped (the default), learned (from learn.log), self (from
//	            events.log, as weir analyze does)
//	want        the findings, one a line, or "nothing":
//	            <detector> <kind>:<value> review|page succeeded|failed|unknown [notice]
//
// A line of traffic is a log line in the combined format, or a statement that
// expands to many requests (all of a file's are put in order of time):
//
//	@WHEN CLIENT COUNT every GAP METHOD TARGET STATUS [agent=A] [user=U] [login=L] [key=K] [session=S] [referer=R] [bytes=N] [op=O] [hours=H-H]
//
// WHEN counts from Monday, 2 March 2026, 00:00 UTC ("1d9h30m"). GAP ends in ~
// for random (exponential) gaps. STATUS is one, or several in turn "401,401,200",
// or "200/404:3": three in a hundred are 404, by chance. hours skips the night.
// op is an operation, with the object that the body names: GetOrder#{n}.
// CLIENT, TARGET and values may hold {n} (from 0), {n*7+100}, {n%40+1},
// {shuffle:1-500} (each once, in random order), {random:1-9}, {zipf:300}, {hex}
// (a random word of 16 bits), {word}, and {uuid:3} and {uuid:n%7+1} (the UUID of
// that number).
package cases

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// Start is a Monday, 00:00 UTC.
const Start pipeline.Time = 1772409600e6

// Event is a line of traffic before it belongs to somebody.
type Event struct {
	Request pipeline.Request
	Clear   pipeline.Clear
}

// Archive splits a txtar file.
func Archive(data []byte) (comment string, files map[string]string) {
	files = map[string]string{}
	name, body := "", strings.Builder{}
	flush := func() {
		if name == "" {
			comment = body.String()
		} else {
			files[name] = body.String()
		}
		body.Reset()
	}
	for line := range strings.Lines(string(data)) {
		if s := strings.TrimSpace(line); strings.HasPrefix(s, "-- ") && strings.HasSuffix(s, " --") && len(s) > 6 {
			flush()
			name = strings.TrimSpace(s[3 : len(s)-3])
			continue
		}
		body.WriteString(line)
	}
	flush()
	return comment, files
}

// Parse reads the traffic of a case; words are those of {word}.
func Parse(text string, words []string) ([]Event, error) {
	rng := rand.New(rand.NewPCG(20260302, 1))
	var out []Event
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '@':
			out, err = appendStatement(out, line, words, rng)
		default:
			var e Event
			if e, err = parseCombined(line); err == nil {
				out = append(out, e)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	slices.SortStableFunc(out, func(a, b Event) int { return int(max(-1, min(1, a.Request.Time-b.Request.Time))) })
	return out, nil
}

// parseCombined reads one line of the combined format.
func parseCombined(line string) (e Event, err error) {
	head, rest, ok := strings.Cut(line, " [")
	stamp, rest, ok2 := strings.Cut(rest, "] \"")
	request, rest, ok3 := strings.Cut(rest, "\" ")
	numbers, rest, ok4 := strings.Cut(rest, " \"")
	referer, agent, ok5 := strings.Cut(strings.TrimSuffix(rest, "\""), "\" \"")
	who, target, sizes := strings.Fields(head), strings.Fields(request), strings.Fields(numbers)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || len(who) != 3 || len(target) != 3 || len(sizes) != 2 {
		return e, fmt.Errorf("no combined log line: %s", line)
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp)
	if err != nil {
		return e, err
	}
	return makeEvent(pipeline.TimeOf(at), who[0], who[2], target[0], target[1], sizes[0], sizes[1], referer, agent)
}

func makeEvent(at pipeline.Time, client, user, method, target, status, size, referer, agent string) (e Event, err error) {
	code, err := strconv.ParseUint(status, 10, 16)
	if err != nil {
		return e, fmt.Errorf("status %q", status)
	}
	path, query, _ := strings.Cut(target, "?")
	e.Request = pipeline.Request{Time: at, Effective: at, Bytes: -1, Duration: -1, Status: uint16(code), Method: method, Path: path, Query: query}
	if n, err := strconv.ParseInt(size, 10, 64); err == nil {
		e.Request.Bytes = n
	}
	if referer != "-" {
		e.Request.Referer = referer
	}
	if agent != "-" {
		e.Request.Agent = agent
	}
	if _, ok := pipeline.ParseAddress(client); !ok {
		return e, fmt.Errorf("client %q is no address", client)
	}
	e.Clear = pipeline.Clear{Remote: client, User: user}
	return e, nil
}

// caseDuration reads "1d9h30m".
func caseDuration(s string) (time.Duration, error) {
	days := 0
	if d, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(d)
		if err != nil {
			return 0, fmt.Errorf("time %q", s)
		}
		days, s = n, rest
		if s == "" {
			s = "0s"
		}
	}
	d, err := time.ParseDuration(s)
	return time.Duration(days)*24*time.Hour + d, err
}

func appendStatement(dst []Event, line string, words []string, rng *rand.Rand) ([]Event, error) {
	f := strings.Fields(line)
	if len(f) < 8 || f[3] != "every" {
		return nil, fmt.Errorf("want @WHEN CLIENT COUNT every GAP METHOD TARGET STATUS: %s", line)
	}
	start, err := caseDuration(f[0][1:])
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(f[2])
	if err != nil || count < 1 {
		return nil, fmt.Errorf("count %q", f[2])
	}
	gapText, random := strings.CutSuffix(f[4], "~")
	gap, err := caseDuration(gapText)
	if err != nil {
		return nil, err
	}
	values := map[string]string{"agent": "Mozilla/5.0", "user": "-", "login": "-", "key": "-", "session": "-", "referer": "-", "bytes": "2000", "op": ""}
	for _, kv := range f[8:] {
		k, v, ok := strings.Cut(kv, "=")
		if _, known := values[k]; !ok || !known && k != "hours" {
			return nil, fmt.Errorf("no such value: %s", kv)
		}
		values[k] = v
	}
	from, to := 0, 24
	if h := values["hours"]; h != "" {
		if _, err := fmt.Sscanf(h, "%d-%d", &from, &to); err != nil || from >= to || to > 24 {
			return nil, fmt.Errorf("hours %q", h)
		}
	}
	x := expander{words: words, rng: rng, shuffles: map[string][]int{}}
	at := start
	for i := range count {
		for hour := int(at/time.Hour) % 24; hour < from || hour >= to; hour = int(at/time.Hour) % 24 {
			at += time.Hour
		}
		e, err := makeEvent(Start.Add(at), x.expand(f[1], i), x.expand(values["user"], i), f[5], x.expand(f[6], i),
			x.status(f[7], i), x.expand(values["bytes"], i), x.expand(values["referer"], i), x.expand(values["agent"], i))
		e.Clear.LoginUser = x.expand(values["login"], i)
		e.Request.Operation = x.expand(values["op"], i)
		if err == nil {
			err = x.err
		}
		if err != nil {
			return nil, err
		}
		e.Clear.APIKey = x.expand(values["key"], i)
		if v := values["session"]; v != "-" {
			e.Clear.Session = x.expand(v, i)
		}
		dst = append(dst, e)
		if random {
			at += time.Duration(float64(gap) * rng.ExpFloat64())
		} else {
			at += gap
		}
	}
	return dst, nil
}

// expander fills in the placeholders of one statement.
type expander struct {
	words    []string
	rng      *rand.Rand
	shuffles map[string][]int
	zipf     *rand.Zipf
	err      error
}

func (x *expander) status(s string, i int) string {
	if usual, odd, ok := strings.Cut(s, "/"); ok {
		code, share, _ := strings.Cut(odd, ":")
		percent, err := strconv.ParseFloat(share, 64)
		if err != nil {
			x.err = fmt.Errorf("status %q", s)
		}
		if x.rng.Float64()*100 < percent {
			return code
		}
		return usual
	}
	list := strings.Split(s, ",")
	return list[i%len(list)]
}

func (x *expander) expand(s string, i int) string {
	for {
		before, rest, ok := strings.Cut(s, "{")
		name, after, ok2 := strings.Cut(rest, "}")
		if !ok || !ok2 {
			return s
		}
		s = before + x.value(name, i) + after
	}
}

func (x *expander) value(name string, i int) string {
	kind, arg, _ := strings.Cut(name, ":")
	lo, hi := 0, 0
	if kind == "shuffle" || kind == "random" {
		if _, err := fmt.Sscanf(arg, "%d-%d", &lo, &hi); err != nil || hi < lo {
			x.err = fmt.Errorf("placeholder {%s}", name)
			return ""
		}
	}
	switch kind {
	case "uuid":
		s := arg
		if _, err := strconv.Atoi(arg); err != nil {
			s = x.value(arg, i)
		}
		a, b := pipeline.Hash64("a"+s), pipeline.Hash64("b"+s)
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(a), a>>32&0xffff, a>>48&0xfff, b&0xfff, b>>16)
	case "word":
		if len(x.words) == 0 {
			x.err = fmt.Errorf("{word} without a file of words")
			return ""
		}
		return x.words[i%len(x.words)]
	case "hex":
		return strconv.FormatInt(int64(1+x.rng.IntN(65535)), 16)
	case "random":
		return strconv.Itoa(lo + x.rng.IntN(hi-lo+1))
	case "shuffle":
		if x.shuffles[arg] == nil {
			x.shuffles[arg] = x.rng.Perm(hi - lo + 1)
		}
		return strconv.Itoa(lo + x.shuffles[arg][i%(hi-lo+1)])
	case "zipf":
		if x.zipf == nil {
			n, err := strconv.ParseUint(arg, 10, 32)
			if err != nil || n == 0 {
				x.err = fmt.Errorf("placeholder {%s}", name)
				return ""
			}
			x.zipf = rand.NewZipf(x.rng, 1.1, 2, n-1)
		}
		return strconv.FormatUint(x.zipf.Uint64()+1, 10)
	}
	// n, n*A+B, n%A+B
	times, mod, add := 1, 0, 0
	for _, format := range []struct {
		text string
		to   []any
	}{{"n*%d+%d", []any{&times, &add}}, {"n*%d", []any{&times}}, {"n%%%d+%d", []any{&mod, &add}}, {"n%%%d", []any{&mod}}, {"n+%d", []any{&add}}, {"n", nil}} {
		times, mod, add = 1, 0, 0
		if _, err := fmt.Sscanf(name+"$", format.text+"$", format.to...); err != nil {
			continue
		}
		v := i * times
		if mod > 0 {
			v = i % mod
		}
		return strconv.Itoa(v + add)
	}
	x.err = fmt.Errorf("placeholder {%s}", name)
	return ""
}

// AppendJSON appends the event as a line of a JSON log, as weir reads it, with the
// line's end.
func (e *Event) AppendJSON(dst []byte) ([]byte, error) {
	r, c := &e.Request, &e.Clear
	uri := r.Path
	if r.Query != "" {
		uri += "?" + r.Query
	}
	line := map[string]any{
		"time": r.Time.Std().Format(time.RFC3339Nano), "remote_addr": c.Remote, "request_method": r.Method, "request_uri": uri, "status": r.Status,
	}
	operation, object, _ := strings.Cut(r.Operation, string(pipeline.ObjectMark))
	if object != "" {
		line["graphql_variables"] = map[string]string{"id": object}
	}
	for name, value := range map[string]string{
		"operation_name":  operation,
		"http_user_agent": r.Agent, "http_referer": r.Referer, "user": c.User, "login_user": c.LoginUser, "api_key": c.APIKey, "session": c.Session,
	} {
		if value != "" && value != "-" {
			line[name] = value
		}
	}
	if r.Bytes >= 0 {
		line["body_bytes_sent"] = r.Bytes
	}
	data, err := json.Marshal(line)
	return append(append(dst, data...), '\n'), err
}
