package alerts

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// suppression is of stuffing by addr, from noon for hours.
func suppression(addr string, hours int) pipeline.Suppression {
	return pipeline.Suppression{
		ID: "s1", Match: pipeline.SuppressionMatch{Detector: "auth.stuffing", Principal: &pipeline.Principal{Kind: pipeline.PrincipalIP, Value: addr}},
		Starts: noon, Expires: noon.Add(time.Duration(hours) * time.Hour), Author: "anna", Reason: "their migration", Created: noon,
	}
}

// spoken is each revision in a few words, with whether sinks get it.
func spoken(list []pipeline.Alert) (out []string) {
	for i := range list {
		a := &list[i]
		id, silent := a.Silent()
		word := map[bool]string{true: "silent", false: "sent"}[silent]
		if id != "" {
			word += " " + id
		}
		if why, ok := a.Envelope.Silence["pierced"]; ok {
			word += fmt.Sprintf(" (%v)", why)
		}
		out = append(out, a.Change.Kind+" "+word)
	}
	return out
}

// silenceRun plays findings, set aside or not, and takes the book through a snapshot
// after each: the result is the same.
type silenceRun struct {
	t    *testing.T
	b    *Book
	of   []pipeline.Suppression
	said []pipeline.Alert
}

func newSilenceRun(t *testing.T, of ...pipeline.Suppression) *silenceRun {
	r := &silenceRun{t: t, b: NewBook(DefaultConfig(), versions()), of: of}
	for _, s := range of {
		r.b.Suppress(s)
	}
	return r
}

func (r *silenceRun) again() {
	r.t.Helper()
	snap, err := r.b.Snapshot()
	if err != nil {
		r.t.Fatal(err)
	}
	if r.b, err = Restore(DefaultConfig(), versions(), snap); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range r.of {
		r.b.Suppress(s)
	}
}

func (r *silenceRun) take(f *pipeline.Finding, aside bool) {
	r.t.Helper()
	if f.Aside = aside; aside {
		f.ID += "-aside"
	}
	r.said = r.b.Take(r.said, f)
	r.again()
}

func (r *silenceRun) until(at pipeline.Time) {
	r.said = r.b.Advance(r.said, at)
	r.again()
}

func (r *silenceRun) want(want ...string) {
	r.t.Helper()
	got := slices.DeleteFunc(spoken(r.said), func(s string) bool { return len(s) > 12 && s[:12] == "still_active" })
	if !slices.Equal(got, want) {
		r.t.Errorf("got  %q\nwant %q", got, want)
	}
	r.said = nil
}

func TestSuppressedIncident(t *testing.T) {
	at := func(min int) pipeline.Time { return noon.Add(time.Duration(min) * time.Minute) }
	const ip = "203.0.113.7"

	// All of it is kept from sinks, its end too, also when that comes after the
	// suppression's.
	r := newSilenceRun(t, suppression(ip, 1))
	r.take(stuffing(ip, at(1), 12, 0), true)
	r.take(stuffing(ip, at(5), 60, 0), true)
	r.take(stuffing(ip, at(30), 70, 0), true)
	r.take(stuffing(ip, at(55), 71, 0), true)
	r.until(at(24 * 60))
	r.want("opened silent s1", "grew silent s1", "resolved silent s1")
	// What comes afterwards is an incident of its own and begins at nothing.
	r.take(stuffing(ip, at(25*60), 14, 0), false)
	r.want("opened sent")

	// Of others, of another detector, and before or after, nothing is kept.
	r = newSilenceRun(t, suppression(ip, 1))
	r.take(stuffing(ip, at(-5), 12, 0), false)
	r.take(stuffing("203.0.113.8", at(1), 12, 0), false)
	r.take(probing(ip, at(2), 30), false)
	other := stuffing(ip, at(3), 12, 0)
	other.Detector = "auth.bruteforce"
	other.Who.Value = "203.0.113.9"
	r.take(other, true)
	r.want("opened sent", "opened sent", "opened sent", "opened sent")

	// A first success and ten times as much pierce it, each once, and who was told
	// is told of the end.
	r = newSilenceRun(t, suppression(ip, 4))
	r.take(stuffing(ip, at(1), 12, 0), true)
	r.take(stuffing(ip, at(2), 119, 0), true)
	r.take(stuffing(ip, at(3), 120, 0), true)
	r.take(stuffing(ip, at(4), 500, 0), true)
	r.take(stuffing(ip, at(5), 600, 1), true)
	r.take(stuffing(ip, at(6), 700, 2), true)
	r.take(stuffing(ip, at(7), 6000, 9), true)
	r.until(at(24 * 60))
	r.want("opened silent s1", "grew silent s1", "grew sent s1 (120 accounts, ten times as much as when it was suppressed)",
		"grew silent s1", "succeeded sent s1 (first success)", "grew sent s1 (6,000 accounts, ten times as much as when it was suppressed)", "resolved sent s1")

	// One that begins with a success is told of at once.
	r = newSilenceRun(t, suppression(ip, 4))
	r.take(stuffing(ip, at(1), 12, 1), true)
	r.want("opened sent s1 (first success)")

	// Of a maintenance much is expected.
	loud := suppression(ip, 4)
	loud.Maintenance, loud.Match = true, pipeline.SuppressionMatch{}
	r = newSilenceRun(t, loud)
	r.take(stuffing(ip, at(1), 12, 0), true)
	r.take(stuffing(ip, at(2), 12_000, 0), true)
	r.take(stuffing(ip, at(3), 12_001, 1), true)
	r.want("opened silent s1", "grew silent s1", "succeeded sent s1 (first success)")
}

func TestSuppressedFromAlert(t *testing.T) {
	at := func(min int) pipeline.Time { return noon.Add(time.Duration(min) * time.Minute) }
	const ip = "203.0.113.7"
	// An open incident falls silent, and who was told of it is told of its end. What
	// is set aside meanwhile is measured by what was known.
	r := newSilenceRun(t, suppression(ip, 10))
	r.take(stuffing(ip, at(-10), 40, 0), false)
	r.take(stuffing(ip, at(1), 200, 0), false) // of before, told at the end of the minute
	r.take(stuffing(ip, at(10), 30, 0), true)
	r.take(stuffing(ip, at(20), 399, 0), true)
	r.until(at(5 * 60))
	r.want("opened sent", "grew silent s1", "opened silent s1", "grew silent s1", "resolved sent s1", "resolved silent s1")

	s := suppression(ip, 10)
	s.Known = &pipeline.SuppressedKnown{Count: 40, Succeeded: true}
	r = newSilenceRun(t, s)
	r.take(stuffing(ip, at(10), 30, 2), true)
	r.take(stuffing(ip, at(20), 399, 5), true)
	r.take(stuffing(ip, at(21), 400, 5), true)
	r.want("opened silent s1", "grew silent s1", "grew sent s1 (400 accounts, ten times as much as when it was suppressed)")
}

// A case that the open campaign tells of is not sent a second time; a success of its
// own is, and it speaks again when the campaign is over.
func TestToldByCampaign(t *testing.T) {
	at := func(min int) pipeline.Time { return noon.Add(time.Duration(min) * time.Minute) }
	campaign := func(min int) *pipeline.Finding {
		f := stuffing("login", at(min), 900, 0)
		f.ID, f.Level, f.Wide, f.Who = "id-campaign", "campaign", true, pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "POST /login"}
		f.Members = []pipeline.Principal{{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}, {Kind: pipeline.PrincipalIP, Value: "203.0.113.8"}}
		return f
	}
	r := newSilenceRun(t)
	r.take(stuffing("203.0.113.7", at(0), 12, 0), false)
	r.take(campaign(1), false)
	r.take(stuffing("203.0.113.7", at(2), 60, 0), false)
	r.take(stuffing("203.0.113.8", at(3), 12, 0), false)
	r.take(stuffing("203.0.113.8", at(4), 13, 1), false)
	r.want("opened sent", "opened sent", "grew silent", "opened silent", "succeeded sent")
	// A campaign that is less grave, or that nobody is told of, tells of nothing.
	for _, quiet := range []bool{false, true} {
		r := newSilenceRun(t)
		if quiet {
			r = newSilenceRun(t, pipeline.Suppression{ID: "s1", Match: pipeline.SuppressionMatch{Level: "campaign"}, Starts: noon, Expires: at(600)})
		}
		c := campaign(1)
		c.Facts.CanSucceed = quiet
		r.take(stuffing("203.0.113.7", at(0), 12, 0), false)
		r.take(c, false)
		r.take(stuffing("203.0.113.7", at(2), 60, 0), false)
		r.want("opened sent", map[bool]string{true: "opened silent s1", false: "opened sent"}[quiet], "grew sent")
	}
	if got := r.b.Open(); len(got) != 3 {
		t.Errorf("%d are open", len(got))
	}
	for min := 40; min < 400; min += 10 {
		r.take(stuffing("203.0.113.7", at(min), 60, 0), false)
	}
	r.said = nil
	r.take(stuffing("203.0.113.7", at(400), 900, 0), false)
	r.want("grew sent")
}

func TestSilentIsNotSent(t *testing.T) {
	cfg := &Config{Routes: []Route{{To: []string{"siem"}}}}
	c := &courier{name: "siem", turn: turn{cfg: cfg}}
	for silence, want := range map[string]bool{"": true, "silent": false, "pierced": true} {
		a := pipeline.Alert{Severity: "critical", Envelope: pipeline.AlertEnvelope{Silence: map[string]any{}}}
		if silence != "" {
			a.Envelope.Silence["id"] = "s1"
			a.Envelope.Silence[silence] = map[string]any{"silent": true, "pierced": "why"}[silence]
		}
		if _, ok := c.wanted(&Row{Seq: 1, Alert: a}); ok != want {
			t.Errorf("%q: sent %t, want %t", silence, ok, want)
		}
	}
}

// TestTwoTriesADay: an attacker of two tries a day is one alert over 14 days.
func TestTwoTriesADay(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	ids, kinds := map[string]bool{}, map[string]int{}
	for try := range int64(28) {
		at := noon.Add(time.Duration(try) * 12 * time.Hour)
		f := stuffing("203.0.113.7", at, 12+try, 0)
		f.First, f.Onset = noon.Add(-8*24*time.Hour), noon.Add(-8*24*time.Hour) // it took days to tell
		for _, a := range b.Take(nil, f) {
			ids[a.ID] = true
			kinds[a.Change.Kind]++
		}
	}
	if len(ids) != 1 || kinds["opened"] != 1 || kinds["resolved"] != 0 || kinds["reopened"] != 0 {
		t.Errorf("%d alerts, %v", len(ids), kinds)
	}
}
