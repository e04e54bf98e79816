package alerts

import (
	"fmt"
	"slices"

	"weir/pipeline"
)

// What a suppression covers is stored and shown like everything, with the mark of
// the suppression, and no sink gets it. What detection set aside for a suppression is
// an incident of its own, beside one of the same client that nobody suppressed: the
// two know nothing of each other, so that nothing is left when the suppression ends.

// hush is what an incident knows of the suppression over it. Exported fields are its
// snapshot.
type hush struct {
	ID          string        `json:"id"` // "" none
	Author      string        `json:"author"`
	Reason      string        `json:"reason"`
	Expires     pipeline.Time `json:"expires"`
	Maintenance bool          `json:"maintenance,omitempty"`
	// Base is the count from which ten times as much is news, Knew that a success is
	// none.
	Base    int64  `json:"base"`
	Knew    bool   `json:"knew,omitempty"`
	Zero    bool   `json:"zero,omitempty"`    // it was known that nothing succeeded
	Pierced string `json:"pierced,omitempty"` // why the last revision was sent all the same
}

// pierceGrowth is how many times as much pierces a suppression.
const pierceGrowth = 10

// Suppress takes a suppression, or news of one, from the next finding on. It is not
// part of the snapshot: who restores a book brings them again.
func (b *Book) Suppress(s pipeline.Suppression) { b.silences.Put(s) }

// Suppressions returns what Suppress took, by id.
func (b *Book) Suppressions() []pipeline.Suppression { return b.silences.List() }

// hushed brings inc's suppression up to date at the book's time, before a revision.
func (b *Book) hushed(inc *incident) {
	s := b.silences.Covering(&inc.Finding, b.now)
	h := &inc.Hush
	h.Pierced = ""
	switch {
	case s == nil && inc.Place.Aside && h.ID != "":
		return // it ended, and what was gathered under it stays its own
	case s == nil:
		*h = hush{}
		return
	case s.ID == h.ID:
		h.Expires = s.End()
		return
	}
	old := *h
	*h = hush{ID: s.ID, Author: s.Author, Reason: s.Reason, Expires: s.End(), Maintenance: s.Maintenance}
	t := tallyOf(&inc.Finding)
	switch before := b.open[place{inc.Place.Who, inc.Place.Family, false}]; {
	case old.ID != "":
		h.Base, h.Knew, h.Zero = old.Base, old.Knew, old.Zero
	case s.Known != nil:
		h.Base, h.Knew = s.Known.Count, s.Known.Succeeded
	case before != nil && (before != inc || inc.Revision > 0):
		was := before.Said.Tally
		h.Base, h.Knew = was.Count, before.Said.Succeeded || was.Succeeded > 0
	default:
		h.Base = t.Count
	}
}

// pierces says why the next revision of inc is sent although a suppression covers
// it, "" if it is not.
func (inc *incident) pierces() string {
	h, t := &inc.Hush, tallyOf(&inc.Finding)
	switch {
	case h.ID == "":
	case !h.Knew && (inc.Succeeded || h.Zero && t.Succeeded > 0 && countsSuccess(inc.Finding.Detector)):
		return "first success"
	case !h.Maintenance && h.Base > 0 && t.Count >= pierceGrowth*h.Base:
		return fmt.Sprintf("%s, ten times as much as when it was suppressed", count(t.Count, t.Noun))
	}
	return ""
}

// countsSuccess reports whether what succeeds for a detector says that an attack did:
// what a crawler is handed out, or a flood, is what the site is there for.
func countsSuccess(detector string) bool {
	switch family(detector) {
	case "scrape", "volume", "data":
		return false
	}
	return true
}

// decide settles, at a revision of kind, whether inc speaks to sinks.
func (b *Book) decide(inc *incident, kind string) {
	b.hushed(inc)
	h, t := &inc.Hush, tallyOf(&inc.Finding)
	inc.Quiet = false
	switch why := inc.pierces(); {
	case kind == "resolved":
		inc.Quiet = inc.Mute // whoever was told that it began is told that it ended
		h.Pierced = ""
	case why != "":
		h.Pierced = why
		h.Base = max(h.Base, t.Count)
	default:
		inc.Quiet = h.ID != "" || b.told(inc)
	}
	h.Knew = h.Knew || inc.Succeeded || h.ID != "" && t.Succeeded > 0
	h.Zero = t.Succeeded == 0
	if h.ID == "" {
		h.Knew, h.Zero = false, false
	}
	if inc.Revision == 0 || kind == "reopened" {
		inc.Mute = true
	}
	inc.Mute = inc.Mute && inc.Quiet
}

// told reports whether the open campaign that inc is part of tells of it, as loudly:
// all but a success of its own.
func (b *Book) told(inc *incident) bool {
	return inc.Parent != "" && inc.Parent != inc.ID && !inc.Succeeded &&
		slices.ContainsFunc(b.campaigns, func(c *incident) bool {
			return c.ID == inc.Parent && c.Severity >= inc.Severity && c.Hush.ID == ""
		})
}

// silence is what the envelope of inc's revision says.
func (inc *incident) silence() map[string]any {
	m := map[string]any{}
	h := &inc.Hush
	switch {
	case h.ID != "":
		m["id"], m["author"], m["reason"], m["expires"] = h.ID, h.Author, h.Reason, h.Expires
		if h.Maintenance {
			m["maintenance"] = true
		}
		if h.Pierced != "" {
			m["pierced"] = h.Pierced
		}
	case inc.Quiet:
		m["campaign"] = inc.Parent
	}
	if inc.Quiet {
		m["silent"] = true
	}
	return m
}

// Silent reports whether no sink gets a: a suppression covers it, or its campaign
// tells of it.
func Silent(a *pipeline.Alert) bool {
	_, silent := a.Silent()
	return silent
}

// Hidden says what keeps a from sinks, or why it was sent although a suppression
// covers it; "" where there is none.
func Hidden(a *pipeline.Alert) string {
	id, silent := a.Silent()
	text := func(key string) string { s, _ := a.Envelope.Silence[key].(string); return printable(s) }
	switch {
	case id != "" && silent:
		return "kept from sinks by suppression " + printable(id) + ": " + text("reason") + " (" + text("author") + ")"
	case id != "" && text("pierced") != "":
		return "sent although suppression " + printable(id) + " covers it: " + text("pierced")
	case silent:
		return "kept from sinks: campaign " + text("campaign") + " tells of it"
	}
	return ""
}
