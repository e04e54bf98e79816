package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
)

// office is a pager, a chat and a SIEM as their APIs are, and a webhook, of which each
// is told of the same alerts. Its processes come and go.
type office struct {
	t   *testing.T
	cfg Config
	st  stores
	mu  sync.Mutex
	// writes is how many writes a process makes before it is killed; nil any number.
	writes func() int64
	lives  []*mortal
	// What each shows: pages by key, with what became of them; messages by thread; and
	// revisions in order.
	pages   map[string][]string
	threads map[string][]string
	order   []string // threads
	siem    []string
	hook    []map[string]any
	ids     []string // of the webhook's messages
	mood    func() int
	nets    map[string]*pipeNet
	stopped func()
	deliver []*Deliverer
}

// stores are those of the sinks, by name.
type stores map[string]*memoryStore

func newOffice(t *testing.T, routes []Route) *office {
	t.Helper()
	o := &office{t: t, st: stores{}, pages: map[string][]string{}, threads: map[string][]string{}, nets: map[string]*pipeNet{}, mood: func() int { return 0 }}
	secret := secretFile(t, "hunter2")
	o.cfg = DefaultConfig()
	o.cfg.Routes = routes
	o.cfg.Sinks = map[string]SinkConfig{
		"pager": {PagerDuty: &PagerDutyConfig{RoutingKeyFile: secret, URL: "http://127.0.0.1/v2/enqueue"}, MaxPerMinute: 60_000},
		"chat":  {Slack: &SlackConfig{TokenFile: secret, Channel: "C1", URL: "http://127.0.0.1/api/"}, MaxPerMinute: 60_000},
		"siem":  {Splunk: &SplunkConfig{TokenFile: secret, URL: "http://127.0.0.1/"}},
		"hook":  {Webhook: &WebhookConfig{BearerFile: secret, URL: "http://127.0.0.1/"}},
	}
	if err := o.cfg.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range everything() {
		o.st[name] = &memoryStore{cursor: map[string]int64{name: 0}, retries: map[int64]Retry{}}
	}
	for name, take := range map[string]func(*http.Request, map[string]any) any{"pager": o.page, "chat": o.chat, "siem": o.index, "hook": o.post} {
		n := newPipeNet()
		o.nets[name] = n
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var said []map[string]any
			for d := json.NewDecoder(r.Body); d.More(); {
				var m map[string]any
				if err := d.Decode(&m); err != nil {
					t.Errorf("%s gets no JSON: %v", name, err)
				}
				said = append(said, m)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if m := o.mood(); m > 0 {
				w.WriteHeader(m)
				return
			}
			var answer any
			for _, m := range said {
				answer = take(r, m)
			}
			_ = json.NewEncoder(w).Encode(answer)
		})}
		go func() { _ = srv.Serve(n) }()
		t.Cleanup(func() { close(n.conns); srv.Close() })
	}
	return o
}

func (o *office) page(_ *http.Request, m map[string]any) any {
	key, action := m["dedup_key"].(string), m["event_action"].(string)
	o.pages[key] = append(o.pages[key], action)
	return map[string]string{"status": "success"}
}

func (o *office) chat(r *http.Request, m map[string]any) any {
	if r.URL.Path != "/api/chat.postMessage" || r.Header.Get("Authorization") != "Bearer hunter2" || m["channel"] != "C1" {
		o.t.Errorf("%s %v %v", r.URL, r.Header, m)
	}
	ts, _ := m["thread_ts"].(string)
	if ts == "" {
		ts = fmt.Sprintf("1732248000.%06d", len(o.threads))
		o.order = append(o.order, ts)
	}
	o.threads[ts] = append(o.threads[ts], m["text"].(string))
	return map[string]any{"ok": true, "channel": "C1", "ts": ts}
}

func (o *office) index(_ *http.Request, m map[string]any) any {
	o.siem = append(o.siem, m["fields"].(map[string]any)["dedup_key"].(string))
	return map[string]any{"text": "Success", "code": 0}
}

func (o *office) post(r *http.Request, m map[string]any) any {
	o.ids = append(o.ids, r.Header.Get("webhook-id"))
	o.hook = append(o.hook, m)
	return nil
}

// start begins a process; it goes on until stopped.
func (o *office) start() {
	o.t.Helper()
	ctx, cancel := context.WithCancel(o.t.Context())
	var wg sync.WaitGroup
	o.deliver, o.lives = nil, nil
	for _, name := range everything() {
		s, err := OpenSink(o.cfg.Sinks[name], SinkOptions{Version: "1.0", dial: o.nets[name].dial})
		if err != nil {
			o.t.Fatal(err)
		}
		m := &mortal{memoryStore: o.st[name]}
		m.writes.Store(1 << 40)
		if o.writes != nil {
			m.writes.Store(o.writes())
		}
		d, err := NewDeliverer(DelivererOptions{Config: o.cfg, Store: m, Sinks: map[string]Sink{name: s}, Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
		if err != nil {
			o.t.Fatal(err)
		}
		o.deliver, o.lives = append(o.deliver, d), append(o.lives, m)
		wg.Go(func() { d.Run(ctx) })
	}
	o.stopped = func() { cancel(); wg.Wait() }
}

// kill ends a process that writes nothing more.
func (o *office) kill() {
	for _, m := range o.lives {
		m.writes.Store(-1)
	}
	o.stopped()
}

// pass lets time go by.
func (o *office) pass(d time.Duration) {
	for _, d := range o.deliver {
		d.Wake()
	}
	time.Sleep(d) // the bubble's clock: takes no time
	synctest.Wait()
}

// say stores a revision of an alert.
func (s stores) say(id string, revision int, kind string, change func(*pipeline.Alert)) {
	a := *TestAlert("1.0", noon)
	a.ID, a.Revision, a.Severity, a.Tier, a.Detector, a.Status, a.Change.Kind = id, revision, "high", "page", "auth.stuffing", "open", kind
	a.Title = "Stuffing by " + id
	if kind == "resolved" {
		a.Status = "resolved"
	}
	if change != nil {
		change(&a)
	}
	for _, st := range s {
		st.mu.Lock()
		st.rows = append(st.rows, Row{Seq: int64(len(st.rows) + 1), Alert: a})
		st.mu.Unlock()
	}
}

// left returns what is not dealt with, and what is remembered.
func (s stores) left() (out []string) {
	for _, name := range everything() {
		st := s[name]
		if st.cursor[name] != int64(len(st.rows)) || len(st.dead)+len(st.retries) > 0 {
			out = append(out, fmt.Sprintf("%s is at %d of %d, dead %v, retries %v", name, st.cursor[name], len(st.rows), st.dead, st.retries))
		}
		if len(st.told[name])+len(st.groups[name]) > 0 {
			out = append(out, fmt.Sprintf("%s knows %v %v", name, st.told[name], st.groups[name]))
		}
	}
	return out
}

func everything() []string { return []string{"pager", "chat", "siem", "hook"} }

// TestPeopleAndSIEM: PagerDuty gets one page and its resolve, Slack one thread, the
// SIEM every revision, also when weir ends and begins anew in the middle.
func TestPeopleAndSIEM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{To: everything()}})
		st := o.st
		o.start()
		st.say("a", 1, "opened", nil)
		o.pass(time.Minute)
		st.say("a", 2, "grew", nil)
		st.say("a", 3, "still_active", nil)
		o.pass(time.Minute)
		o.stopped()
		o.start()
		st.say("a", 4, "succeeded", func(a *pipeline.Alert) { a.Severity = "critical" })
		st.say("a", 5, "resolved", func(a *pipeline.Alert) { a.Severity = "critical" })
		o.pass(time.Minute)
		o.stopped()
		if d := cmp.Diff(map[string][]string{"a": {"trigger", "trigger", "trigger", "resolve"}}, o.pages); d != "" {
			t.Error(d)
		}
		if len(o.threads) != 1 || len(o.threads[o.order[0]]) != 4 || !strings.HasPrefix(o.threads[o.order[0]][3], "Over: ") {
			t.Errorf("threads %q", o.threads)
		}
		if want := []string{"a.1", "a.2", "a.3", "a.4", "a.5"}; !slices.Equal(o.siem, want) || !slices.Equal(o.ids, want) {
			t.Errorf("SIEM %v, webhook %v", o.siem, o.ids)
		}
		if left := st.left(); len(left) > 0 {
			t.Error(left)
		}
		// Another incident is another thread.
		o.start()
		st.say("b", 1, "opened", nil)
		o.pass(time.Minute)
		o.stopped()
		if len(o.threads) != 2 || len(o.pages) != 2 {
			t.Errorf("%v %v", o.threads, o.pages)
		}
	})
}

// TestGroupBy: the incidents of a group are one page, one thread and one message;
// the page ends with the last of them.
func TestGroupBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{To: everything(), GroupBy: []string{"detector", "label.team"}, GroupWait: Duration(30 * time.Second)}})
		st := o.st
		o.start()
		other := func(a *pipeline.Alert) { a.Detector = "scrape.crawl" }
		st.say("a", 1, "opened", nil)
		st.say("c", 1, "opened", other)
		o.pass(10 * time.Second)
		if len(o.siem) != 2 || len(o.pages)+len(o.threads)+len(o.ids) != 0 {
			t.Errorf("SIEM %v, pages %v, threads %v, webhook %v", o.siem, o.pages, o.threads, o.ids)
		}
		st.say("b", 1, "opened", nil)
		st.say("a", 2, "grew", nil)
		o.pass(21 * time.Second)
		if len(o.pages) != 2 || len(o.threads) != 2 || len(o.hook) != 2 {
			t.Fatalf("pages %v, threads %v, webhook %v", o.pages, o.threads, o.ids)
		}
		o.hook = slices.DeleteFunc(o.hook, func(m map[string]any) bool { return m["data"].(map[string]any)["count"] == 1.0 })
		data := o.hook[0]["data"].(map[string]any)
		var ids []string
		for _, a := range data["alerts"].([]any) {
			m := a.(map[string]any)
			ids = append(ids, fmt.Sprint(m["id"], ".", m["revision"]))
		}
		if o.hook[0]["type"] != "alert.group" || data["count"] != 2.0 || data["open"] != 2.0 || !slices.Equal(ids, []string{"b.1", "a.2"}) {
			t.Errorf("webhook %v", o.hook[0])
		}
		o.stopped()
		o.start() // the groups are known from the store
		st.say("a", 3, "resolved", nil)
		o.pass(31 * time.Second)
		st.say("d", 1, "opened", nil)
		st.say("b", 2, "resolved", nil)
		o.pass(31 * time.Second)
		// What changed its place in between stays in its group.
		st.say("d", 2, "resolved", func(a *pipeline.Alert) { a.Detector = "auth.spraying" })
		o.pass(31 * time.Second)
		o.stopped()
		key := data["group"].(string)
		if d := cmp.Diff([]string{"trigger", "trigger", "resolve"}, o.pages[key]); d != "" {
			t.Error(d)
		}
		if len(o.pages) != 2 || len(o.threads) != 2 {
			t.Errorf("pages %v, threads %v", o.pages, o.threads)
		}
		thread := o.threads[o.order[slices.IndexFunc(o.order, func(ts string) bool { return len(o.threads[ts]) > 1 })]]
		if len(thread) != 4 || !strings.HasPrefix(thread[0], "2 alerts open (detector auth.stuffing, label.team ") || !strings.HasPrefix(thread[3], "All over") {
			t.Errorf("thread %q", thread)
		}
		if want := []string{"a.1", "c.1", "b.1", "a.2", "a.3", "d.1", "b.2", "d.2"}; !slices.Equal(o.siem, want) {
			t.Errorf("SIEM %v", o.siem)
		}
	})
}

// TestRepeat: what stays open without news is told again, from stored state, and no
// more when it is over; a SIEM is not told again.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{To: everything(), Repeat: Duration(4 * time.Hour)}})
		st := o.st
		o.start()
		st.say("a", 1, "opened", nil)
		o.pass(3 * time.Hour)
		st.say("a", 2, "grew", nil) // news: counts anew
		o.pass(2 * time.Hour)
		if want := []string{"a.1", "a.2"}; !slices.Equal(o.ids, want) {
			t.Errorf("webhook %v", o.ids)
		}
		o.stopped()
		time.Sleep(time.Hour)
		o.start()
		o.pass(90 * time.Minute)
		o.stopped()
		o.start()
		o.pass(4 * time.Hour)
		st.say("a", 3, "resolved", nil)
		o.pass(24 * time.Hour)
		o.stopped()
		if want := []string{"a.1", "a.2", "a.2.r1", "a.2.r2", "a.3"}; !slices.Equal(o.ids, want) || o.hook[2]["type"] != "alert.repeat" {
			t.Errorf("webhook %v", o.ids)
		}
		if want := []string{"a.1", "a.2", "a.3"}; !slices.Equal(o.siem, want) {
			t.Errorf("SIEM %v", o.siem)
		}
		if d := cmp.Diff([]string{"trigger", "trigger", "trigger", "trigger", "resolve"}, o.pages["a"]); d != "" {
			t.Error(d)
		}
		if thread := o.threads[o.order[0]]; len(o.threads) != 1 || len(thread) != 5 || !strings.HasPrefix(thread[2], "Still open: ") {
			t.Errorf("threads %q", o.threads)
		}
	})
}

// TestRepeatSuppressed: while a suppression covers it, nothing is told again.
func TestRepeatSuppressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{To: everything(), Repeat: Duration(time.Hour)}})
		o.start()
		o.st.say("a", 1, "opened", nil)
		o.st.say("a", 2, "still_active", func(a *pipeline.Alert) { a.Envelope.Silence = map[string]any{"id": "s1", "silent": true} })
		o.pass(5 * time.Hour)
		o.st.say("a", 3, "still_active", nil)
		o.pass(90 * time.Minute)
		o.stopped()
		if want := []string{"a.1", "a.3", "a.3.r1"}; !slices.Equal(o.ids, want) {
			t.Errorf("%v", o.ids)
		}
	})
}

// TestRepeatEnds: an alert that nobody will end, because detection began anew, is not
// told again for ever; one that is active is.
func TestRepeatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{Match: Match{Change: []string{"opened"}}, To: everything(), Repeat: Duration(4 * time.Hour)}})
		st := o.st
		at := func(a *pipeline.Alert) { a.Window.Last = pipeline.TimeOf(time.Now()) }
		o.start()
		st.say("lost", 1, "opened", at)
		st.say("active", 1, "opened", at)
		for day := range 20 {
			st.say("active", 2+day, "still_active", at) // no route takes it
			o.pass(24 * time.Hour)
		}
		o.stopped()
		n := map[string]int{}
		for _, id := range o.ids {
			id, _, _ = strings.Cut(id, ".")
			n[id]++
		}
		if n["lost"] < 40 || n["lost"] > 60 || n["active"] < 110 {
			t.Errorf("%v", n)
		}
	})
}

// TestRepeatWhileDown: a repeat that is not taken is tried again, and is no dead letter.
func TestRepeatWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{To: []string{"hook"}, Repeat: Duration(time.Hour), GroupBy: []string{"detector"}}})
		st := o.st
		st.say("a", 1, "opened", nil)
		st.say("b", 1, "opened", nil)
		o.start()
		o.pass(time.Minute)
		down := 400
		o.mood = func() int { return down }
		o.pass(2 * time.Hour)
		o.mu.Lock()
		down = 0
		o.mu.Unlock()
		o.pass(30 * time.Minute)
		o.stopped()
		if h := st["hook"]; len(h.dead)+len(h.retries) > 0 || len(o.hook) != 2 {
			t.Fatalf("%d messages, dead %v", len(o.hook), h.dead)
		}
		if data := o.hook[1]["data"].(map[string]any); data["repeat"] != 1.0 || data["count"] != 2.0 || data["open"] != 2.0 {
			t.Errorf("%v", data)
		}
	})
}

// TestNoEndIsTold: with send_resolved false a page stays, and what it was of is over.
func TestNoEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		no := false
		o := newOffice(t, []Route{{To: everything(), SendResolved: &no, Repeat: Duration(time.Hour)}})
		st := o.st
		o.start()
		st.say("a", 1, "opened", nil)
		st.say("a", 2, "resolved", nil)
		o.pass(5 * time.Hour)
		o.stopped()
		if d := cmp.Diff(map[string][]string{"a": {"trigger"}}, o.pages); d != "" || len(st.left()) > 0 || len(o.ids) != 1 {
			t.Error(d, st.left(), o.ids)
		}
	})
}

// TestBeganInHistory: an attack that began before weir was watching pages when it is
// seen live.
func TestBeganInHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, []Route{{To: everything()}})
		st := o.st
		o.start()
		st.say("a", 1, "opened", func(a *pipeline.Alert) { a.Envelope.Triage = map[string]any{backfillKey: true} })
		st.say("a", 2, "still_active", nil)
		st.say("a", 3, "still_active", nil)
		o.pass(time.Minute)
		o.stopped()
		if d := cmp.Diff(map[string][]string{"a": {"trigger"}}, o.pages); d != "" || len(o.threads[o.order[0]]) != 1 {
			t.Error(d, o.threads)
		}
	})
}

// TestPeopleThroughMishaps: groups through errors and kills. Every page is resolved
// in the end and none twice, and a page that is told of has all its alerts told.
func TestPeopleThroughMishaps(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { peopleChaos(t, rand.New(rand.NewPCG(seed, *chaosSeed))) })
		})
	}
}

func peopleChaos(t *testing.T, rng *rand.Rand) {
	t.Helper()
	const total = 800
	o := newOffice(t, []Route{{To: everything(), GroupBy: []string{"endpoint"}, GroupWait: Duration(30 * time.Second)}})
	o.writes = func() int64 { return 1 + int64(rng.IntN(60)) }
	dice := rand.New(rand.NewPCG(rng.Uint64(), 2))
	calm := false
	o.mood = func() int {
		if !calm && dice.IntN(5) == 0 {
			return []int{429, 500, 503}[dice.IntN(3)]
		}
		return 0
	}
	next, open := map[string]int{}, map[string]bool{}
	made := 0
	say := func(id, kind string) {
		next[id]++
		open[id] = kind != "resolved"
		o.st.say(id, next[id], kind, func(a *pipeline.Alert) { a.Endpoint.Template = "/" + id[:1] })
		made++
	}
	lives := 0
	for ; made < total; lives++ {
		o.start()
		for lasts := 5 + rng.IntN(40); lasts > 0 && made < total; lasts-- {
			for range rng.IntN(8) {
				id := fmt.Sprintf("%c%d", 'a'+rng.IntN(4), rng.IntN(9))
				switch {
				case !open[id]:
					say(id, "opened")
				case rng.IntN(2) == 0:
					say(id, "resolved")
				default:
					say(id, "grew")
				}
			}
			o.pass(time.Duration(rng.IntN(8000)) * time.Millisecond)
		}
		o.kill()
	}
	for _, id := range sortedKeys(open) {
		if open[id] {
			say(id, "resolved")
		}
	}
	calm, o.writes = true, nil
	o.start()
	o.pass(12 * time.Hour)
	o.stopped()
	if left := o.st.left(); len(left) > 0 || len(o.pages) != 4 || lives < 3 {
		t.Errorf("%d pages, %d lives: %v", len(o.pages), lives, left)
	}
	for key, list := range o.pages {
		if list[0] != "trigger" || list[len(list)-1] != "resolve" {
			t.Errorf("page %s: %v", key, list)
		}
	}
	newest := map[string]int{}
	for _, k := range o.siem {
		id, n, _ := strings.Cut(k, ".")
		var revision int
		_, _ = fmt.Sscan(n, &revision)
		newest[id] = max(newest[id], revision)
	}
	seen := map[string]bool{}
	for _, k := range o.siem {
		seen[k] = true
	}
	for _, r := range o.st["siem"].rows {
		if !seen[revisionOf(&r.Alert)] {
			t.Errorf("the SIEM lacks %s", revisionOf(&r.Alert))
		}
	}
	if d := cmp.Diff(next, newest); d != "" {
		t.Error(d)
	}
	t.Logf("%d lives, %d revisions, %d messages to the webhook, %d pages, %d threads", lives, made, len(o.hook), len(o.pages), len(o.threads))
}
