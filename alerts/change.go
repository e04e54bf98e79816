package alerts

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// tally is the main numbers of a case, as people count them.
type tally struct {
	Count     int64  `json:"count"` // attempted, else requests: what growth is measured by
	Shown     int64  `json:"shown"` // accounts for logins, else Count
	Noun      string `json:"noun"`
	Succeeded int64  `json:"succeeded"` // -1 unknown
}

func tallyOf(f *pipeline.Finding) tally {
	o := &f.Outcome
	t := tally{Count: o.Attempted, Noun: noun(f.Detector), Succeeded: -1}
	if o.Attempted <= 0 {
		t.Count, t.Noun = o.Requests, "requests"
	}
	t.Shown = t.Count
	if family(f.Detector) == "auth" && o.Accounts != nil && *o.Accounts > 0 {
		t.Shown, t.Noun = *o.Accounts, "accounts"
	}
	if o.Succeeded != nil {
		t.Succeeded = *o.Succeeded
	}
	return t
}

// noun is what a detector's attempts are.
func noun(detector string) string {
	if detector == "enum.user" {
		return "names"
	}
	switch family(detector) {
	case "enum", "data":
		return "objects"
	case "probe":
		return "paths"
	case "scrape":
		return "pages"
	case "auth":
		return "logins"
	case "inject":
		return "attempts"
	}
	return "requests"
}

// worked is what n successes of a detector are, with the verb.
func worked(detector string, n int64) string {
	s := map[bool]string{true: "", false: "s"}[n == 1]
	if detector == "enum.user" {
		return "name" + s + " confirmed"
	}
	switch family(detector) {
	case "auth":
		return "login" + s + " worked"
	case "enum", "data":
		return "object" + s + " handed out"
	case "probe":
		return "path" + s + " answered"
	case "scrape":
		return "page" + s + " handed out"
	}
	return "request" + s + " succeeded"
}

// count writes "1 account", "57 accounts", "12,040 accounts".
func count(n int64, plural string) string {
	if n == 1 {
		plural = strings.TrimSuffix(plural, "s")
	}
	return thousands(n) + " " + plural
}

// thousands writes n with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// duration writes d as people say it: "40 s", "25 min", "3 h 10 min", "2 days".
func duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(d, 0)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		if m := d % time.Hour / time.Minute; m > 0 {
			return fmt.Sprintf("%d h %d min", d/time.Hour, m)
		}
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// numbers writes "12 → 57 accounts, 2 logins worked"; was is nil at the start.
func numbers(was *tally, is tally, detector string) string {
	s := count(is.Shown, is.Noun)
	if was != nil && was.Noun == is.Noun && was.Shown != is.Shown {
		s = thousands(was.Shown) + " → " + s
	}
	if is.Succeeded > 0 {
		s += ", " + thousands(is.Succeeded) + " " + worked(detector, is.Succeeded)
	}
	return s
}

// changeText says what a revision of kind at now adds.
func (inc *incident) changeText(kind string, now pipeline.Time) string {
	if isHealth(inc.Finding.Detector) && kind == "opened" {
		return "noticed"
	}
	s, is := &inc.Said, tallyOf(&inc.Finding)
	was := s.news()
	if kind == "still_active" {
		was = &s.Tally
	}
	n := numbers(was, is, inc.Finding.Detector)
	switch kind {
	case "grew":
		if inc.Severity > s.Severity {
			w := severities()
			return fmt.Sprintf("severity %s → %s; %s", w[s.Severity], w[inc.Severity], n)
		}
		if inc.swelled() {
			return fmt.Sprintf("%s → %s; %s", thousands(int64(s.Members)), count(int64(inc.Finding.MembersTotal), "clients"), n)
		}
	case "succeeded":
		if is.Succeeded <= 0 {
			return "first confirmed success; " + n
		}
	case "new_endpoint":
		return "now at " + where(inc.Finding.Endpoint) + "; " + n
	case "still_active":
		if !inc.Sent {
			return "began before weir was watching, still active; " + n
		}
		return "still active after " + duration(now.Sub(s.Time)) + "; " + n
	case "resolved":
		return "silent since " + clock(inc.Last) + "; " + numbers(nil, is, inc.Finding.Detector)
	}
	return n
}

// where writes an endpoint: "POST api.example.com/login".
func where(e pipeline.Endpoint) string {
	s := e.Host + e.Template
	if e.Method != "" {
		s = e.Method + " " + s
	}
	return s
}

// clock writes t as "22 Nov 14:02 UTC".
func clock(t pipeline.Time) string { return t.Std().Format("2 Jan 15:04") + " UTC" }
