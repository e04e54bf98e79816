package alerts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
)

// posts are webhooks by name: what each got, and what it answers.
type posts struct {
	mu     sync.Mutex
	got    map[string][]string
	tokens map[string]string // of the last
	answer map[string]int
	hold   chan struct{} // requests wait for it; nil they do not
	nets   map[string]*pipeNet
}

func newPosts(t *testing.T, names ...string) *posts {
	t.Helper()
	p := &posts{got: map[string][]string{}, tokens: map[string]string{}, answer: map[string]int{}, nets: map[string]*pipeNet{}}
	for _, name := range names {
		n := newPipeNet()
		p.nets[name] = n
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			hold := p.hold
			p.mu.Unlock()
			if hold != nil {
				<-hold
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if code := p.answer[name]; code != 0 {
				w.WriteHeader(code)
				return
			}
			p.got[name] = append(p.got[name], r.Header.Get("webhook-id"))
			p.tokens[name] = r.Header.Get("Authorization")
		})}
		go func() { _ = srv.Serve(n) }()
		t.Cleanup(func() { close(n.conns); srv.Close() })
	}
	return p
}

func (p *posts) of(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.got[name], " ")
}

// TestReload: other sinks and routes take the place of those at work between two
// attempts; what is on its way arrives once, and a bad configuration changes nothing.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPosts(t, "pager", "chat", "lake")
		one, two := secretFile(t, "one"), secretFile(t, "two")
		hook := func(token string) SinkConfig {
			return SinkConfig{Webhook: &WebhookConfig{URL: "http://127.0.0.1/", BearerFile: token, Heartbeat: Duration(time.Hour)}}
		}
		cfg := DefaultConfig()
		cfg.Sinks = map[string]SinkConfig{"pager": hook(one), "chat": hook(one)}
		st := &memoryStore{cursor: map[string]int64{"pager": 0, "chat": 0}, retries: map[int64]Retry{}}
		reg := prometheus.NewRegistry()
		d, err := NewDeliverer(DelivererOptions{
			Config: cfg, Store: st, Log: zap.NewNop(), Metrics: reg, Heartbeat: func() []byte { return []byte("{}") },
			dial: func(name string) func(context.Context, string, string) (net.Conn, error) { return p.nets[name].dial },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		pass := func(wait time.Duration) { d.Wake(); time.Sleep(wait); synctest.Wait() }
		say := stores{"all": st}.say
		reload := func(c Config, before func() error) error {
			if err := c.Err(); err != nil {
				t.Fatal(err)
			}
			return d.Reload(c, before)
		}
		f := func(name, want string) {
			t.Helper()
			var got []string
			for id := range strings.FieldsSeq(p.of(name)) {
				if !strings.HasPrefix(id, "heartbeat.") {
					got = append(got, id)
				}
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("%s got %q, want %q", name, s, want)
			}
		}
		yes := func() error { return nil }

		// While an attempt is on its way.
		hold := make(chan struct{})
		p.mu.Lock()
		p.hold = hold
		p.mu.Unlock()
		say("a", 1, "opened", nil)
		pass(time.Second)
		f("pager", "")
		next := cfg
		next.Sinks = map[string]SinkConfig{"pager": hook(two), "lake": hook(one)}
		next.Routes = []Route{{Match: Match{Severity: []string{"critical"}}, To: []string{"pager"}, Continue: true}, {To: []string{"lake"}}}
		if err := reload(next, yes); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		p.hold = nil
		p.mu.Unlock()
		close(hold)
		pass(time.Second)
		say("b", 1, "opened", nil)
		say("c", 1, "opened", func(a *pipeline.Alert) { a.Severity = "critical" })
		pass(time.Minute)
		f("pager", "a.1 c.1")
		f("chat", "a.1") // named no more
		f("lake", "b.1 c.1")
		if p.tokens["pager"] != "Bearer two" {
			t.Errorf("the pager is sent %q", p.tokens["pager"])
		}
		if names := statusNames(d); names != "lake pager" {
			t.Errorf("status of %s", names)
		}

		// What cannot be opened, or is refused, changes nothing.
		bad := next
		bad.Sinks = maps.Clone(next.Sinks)
		bad.Sinks["pager"] = hook(filepath.Join(t.TempDir(), "none"))
		bad.Routes = nil
		if err := reload(bad, yes); err == nil || !strings.Contains(err.Error(), "alerts.sinks.pager") {
			t.Errorf("a secret that is not there: %v", err)
		}
		if err := reload(cfg, func() error { return errors.New("no") }); err == nil {
			t.Error("it went on though it was told not to")
		}
		say("d", 1, "opened", nil)
		pass(time.Minute)
		f("pager", "a.1 c.1")
		f("lake", "b.1 c.1 d.1")

		// One that was switched off is tried anew, and one that comes back goes on.
		p.mu.Lock()
		p.answer["lake"] = http.StatusGone
		p.mu.Unlock()
		say("e", 1, "opened", nil)
		pass(time.Minute)
		p.mu.Lock()
		delete(p.answer, "lake")
		p.mu.Unlock()
		pass(24 * time.Hour)
		f("lake", "b.1 c.1 d.1")
		back := cfg
		back.Sinks = map[string]SinkConfig{"lake": hook(one), "chat": hook(one)}
		for range 3 { // also when the one before was not taken on yet
			if err := reload(back, yes); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Minute)
		f("lake", "b.1 c.1 d.1 e.1")
		f("chat", "a.1 b.1 c.1 d.1 e.1")
		// Heartbeats go on from those that are there, once each.
		before := strings.Count(p.of("lake"), "heartbeat")
		pass(10 * time.Hour)
		if n := strings.Count(p.of("lake"), "heartbeat") - before; n != 10 {
			t.Errorf("%d heartbeats in ten hours", n)
		}
		if len(st.dead)+len(st.retries) > 0 {
			t.Errorf("dead %v, retries %v", st.dead, st.retries)
		}
	})
}

func statusNames(d *Deliverer) string {
	var names []string
	for _, s := range d.Status() {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// TestReloadAtAnyTime: whatever is reloaded while alerts come, each arrives at the
// sink that every configuration names, in order, and once.
func TestReloadAtAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPosts(t, "siem", "chat")
		token := secretFile(t, "one")
		st := &memoryStore{cursor: map[string]int64{"siem": 0}, retries: map[int64]Retry{}}
		config := func(i int) Config {
			c := DefaultConfig()
			c.Sinks = map[string]SinkConfig{"siem": {Webhook: &WebhookConfig{URL: "http://127.0.0.1/", BearerFile: token, Timeout: Duration(time.Duration(1+i%30) * time.Second)}}}
			if i%3 > 0 {
				c.Sinks["chat"] = SinkConfig{Webhook: &WebhookConfig{URL: "http://127.0.0.1/", BearerFile: token}}
				c.Routes = []Route{{To: []string{"siem", "chat"}, Repeat: Duration(time.Hour)}}
			}
			return c
		}
		d, err := NewDeliverer(DelivererOptions{
			Config: config(0), Store: st, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
			dial: func(name string) func(context.Context, string, string) (net.Conn, error) { return p.nets[name].dial },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		var want []string
		for i := range 400 {
			id := fmt.Sprint("x", i)
			stores{"all": st}.say(id, 1, "opened", nil)
			want = append(want, id+".1")
			d.Wake()
			if i%2 == 0 {
				if err := d.Reload(config(i), func() error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if i%7 == 0 {
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		if got := p.got["siem"]; !slices.Equal(got, want) {
			t.Errorf("%d of %d arrived: %v", len(got), len(want), got)
		}
		if err := d.Reload(config(1), func() error { return nil }); err != nil { // after the end it starts nothing
			t.Error(err)
		}
	})
}
