package alerts

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"weir/pipeline"
)

// TextOptions say how an alert is written for people.
type TextOptions struct {
	Stored  bool // the alert is in a store, where weir suppress finds it
	Color   bool
	Verbose bool // adds nats, id and campaign
	Width   int  // columns; 0 means no bound
}

const (
	maxLines  = 12
	labelWide = 9
	minWidth  = 60
)

// Text writes a in at most 12 lines, in the order in which someone woken at
// night needs them. Whatever a client could have written is made harmless to a
// terminal. The error is w's.
func Text(w io.Writer, a *pipeline.Alert, o TextOptions) error {
	p := page{opt: o, lines: make([]string, 0, maxLines)}
	if o.Width > 0 {
		p.opt.Width = max(o.Width, minWidth)
	}
	p.head(a)
	p.add("who", who(a), 5)
	p.add("what", what(a), 1)
	p.add("active", activity(a), 4)
	if a.Severity != "info" && !isHealth(a.Detector) {
		p.add("success", success(a), 3)
		p.add("odds", odds(a), 7)
	}
	for i, n := range a.Next[:min(len(a.Next), 2)] {
		p.add([]string{"next", ""}[i], n, []int{2, 6}[i])
	}
	if len(a.BenignIf) > 0 {
		p.add("benign", "if it is "+strings.Join(a.BenignIf[:min(len(a.BenignIf), 3)], ", or "), 8)
	}
	if !strings.HasPrefix(a.Detector, "health.") {
		p.add("silence", silence(a, o.Stored), 0)
	}
	if o.Verbose {
		p.add("detail", detail(a), 9)
	}
	p.layOut()
	_, err := io.WriteString(w, strings.Join(p.lines, "\n")+"\n")
	return err
}

// Fact is one of the lines that Text writes.
type Fact struct{ Label, Text string }

// Facts is what Text says of a below its title and without what to do, uncut.
// Like there, nothing in it is obeyed or hidden by what shows it.
func Facts(a *pipeline.Alert) []Fact {
	list := []Fact{{"who", printable(who(a))}, {"active", printable(activity(a))}}
	if a.Severity != "info" && !isHealth(a.Detector) {
		list = append(list, Fact{"success", printable(success(a))}, Fact{"odds", printable(odds(a))})
	}
	return list
}

// Printable writes what a terminal or a page would obey or hide as an escape.
func Printable(s string) string { return printable(s) }

// page collects what is to be written, then the lines of it.
type page struct {
	opt     TextOptions
	entries []entry
	lines   []string
}

// entry is one label with its text. Where the text is wider than the page the
// spare lines go to the entries by rank, 1 first; rank 0 is never cut, because
// people copy it.
type entry struct {
	label, text string
	rank        int
}

func (p *page) add(label, text string, rank int) {
	p.entries = append(p.entries, entry{label, printable(text), rank})
}

// layOut writes the entries, with a second row for as many as fit.
func (p *page) layOut() {
	wide := p.opt.Width - labelWide - 2
	fits := func(e entry) bool {
		return p.opt.Width == 0 || e.rank == 0 || utf8.RuneCountInString(e.text) <= wide
	}
	two := map[int]bool{}
	spare := maxLines - len(p.lines) - len(p.entries)
	for rank := 1; rank <= 9; rank++ {
		for _, e := range p.entries {
			if e.rank == rank && spare > 0 && !fits(e) {
				two[rank] = true
				spare--
			}
		}
	}
	for _, e := range p.entries {
		prefix := fmt.Sprintf("  %-*s", labelWide, e.label)
		if p.opt.Color {
			prefix = "  \x1b[2m" + prefix[2:] + "\x1b[0m"
		}
		text := e.text
		if two[e.rank] && !fits(e) {
			var first string
			first, text = split(text, wide)
			p.lines = append(p.lines, prefix+first)
			prefix = strings.Repeat(" ", labelWide+2)
		}
		if !fits(e) {
			text = clip(text, wide)
		}
		p.lines = append(p.lines, prefix+text)
	}
}

// head writes severity and title.
func (p *page) head(a *pipeline.Alert) {
	word := strings.ToUpper(printable(a.Severity))
	if a.Status == "resolved" {
		word += " (resolved)"
	}
	title := printable(a.Title)
	if p.opt.Width > 0 {
		title = clip(title, p.opt.Width-len(word)-2)
	}
	if p.opt.Color {
		word = color(a) + word + "\x1b[0m"
		title = "\x1b[1m" + title + "\x1b[0m"
	}
	p.lines = append(p.lines, word+"  "+title)
}

func color(a *pipeline.Alert) string {
	switch {
	case a.Status == "resolved":
		return "\x1b[32m"
	case a.Severity == "critical":
		return "\x1b[1;97;41m"
	case a.Severity == "high":
		return "\x1b[1;31m"
	case a.Severity == "medium":
		return "\x1b[33m"
	}
	return "\x1b[36m"
}

// split cuts s at the last space within wide characters.
func split(s string, wide int) (part, rest string) {
	end, space, n := len(s), -1, 0
	for i, r := range s {
		if n == wide {
			end = i
			if r == ' ' {
				space = i
			}
			break
		}
		if r == ' ' {
			space = i
		}
		n++
	}
	if n < wide {
		return s, ""
	}
	if space > 0 {
		return s[:space], strings.TrimLeft(s[space:], " ")
	}
	return s[:end], s[end:]
}

// clip shortens s to wide characters.
func clip(s string, wide int) string {
	if utf8.RuneCountInString(s) <= wide {
		return s
	}
	part, _ := split(s, wide-1)
	return part + "…"
}

// printable writes what a terminal would obey or hide as an escape: control
// bytes, ANSI sequences, bidirectional overrides, zero widths, bytes that are
// no UTF-8.
func printable(s string) string {
	ok := true
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1, r < 0x80 && !strconv.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !strconv.IsPrint(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// who says who it is, from where, and how many people may be behind it.
func who(a *pipeline.Alert) string {
	var b strings.Builder
	switch {
	case isScan(a):
		b.WriteString(count(int64(a.MembersTotal), "clients"))
		for i, m := range a.Members[:min(len(a.Members), 3)] {
			b.WriteString([]string{": ", ", ", ", "}[i] + clip(m.Value, 45))
		}
		if n := a.MembersTotal - 3; n > 0 {
			b.WriteString(" and " + thousands(int64(n)) + " more")
		}
		return b.String()
	case a.Level == "campaign" && a.MembersTotal > 0:
		b.WriteString(count(int64(a.MembersTotal), "clients"))
		for i, m := range a.Members[:min(len(a.Members), 3)] {
			b.WriteString([]string{", such as ", ", ", ", "}[i] + clip(m.Value, 45))
		}
		if a.Predicate != "" {
			b.WriteString("; " + clip(a.Predicate, 160))
		}
		return b.String()
	case a.Principal.Kind == pipeline.PrincipalIP:
		b.WriteString(a.Principal.Value)
	case a.Principal.Kind == pipeline.PrincipalEndpoint:
		b.WriteString(clip(a.Principal.Value, 100))
	default:
		b.WriteString(a.Principal.Kind.String() + " " + clip(a.Principal.Value, 60))
		if len(a.Addresses) > 0 {
			b.WriteString(", from " + a.Addresses[0])
			if n := a.AddressesTotal - 1; n > 0 {
				b.WriteString(" and " + count(int64(n), "more addresses"))
			}
		}
	}
	c := &a.Context
	if c.Network != "" {
		b.WriteString(", " + c.Network + " network")
	}
	if c.ASN != "" {
		b.WriteString(", " + c.ASN)
	}
	if c.Country != "" {
		b.WriteString(", " + c.Country)
	}
	switch p := c.People; {
	case p == nil:
	case *p == [2]int{1, 1}:
		b.WriteString("; one person behind it")
	case p[0] == p[1]:
		fmt.Fprintf(&b, "; about %d people behind it", p[0])
	default:
		fmt.Fprintf(&b, "; %d to %d people behind it", p[0], p[1])
	}
	if len(c.Agents) > 0 && c.Agents[0] != "" {
		b.WriteString("; says it is " + clip(c.Agents[0], 50))
	}
	if c.PriorAlerts > 0 {
		b.WriteString("; " + count(int64(c.PriorAlerts), "earlier alerts"))
	}
	if demoted(a) {
		b.WriteString("; one of a campaign, which is an alert of its own")
	}
	return b.String()
}

// demoted reports a case that would page had its campaign not.
func demoted(a *pipeline.Alert) bool {
	return a.Campaign != "" && a.Level == "client" && a.Tier == tierName(tierReview) && family(a.Detector) == "auth" && a.Score.Nats >= a.Score.PageAt
}

// what says since when and what, and what is new about it.
func what(a *pipeline.Alert) string {
	s := "since " + clock(a.Window.Onset)
	if d := a.Window.Last.Sub(a.Window.Onset); d >= time.Minute {
		s += ", for " + duration(d)
	}
	return s + ": " + a.Reason
}

// activity says whether it still goes on, how fast, and what changed since the
// last time anyone was told.
func activity(a *pipeline.Alert) string {
	s := "no"
	if a.Ongoing {
		s = "yes"
	}
	if a.Ongoing && a.Rate5m > 0 {
		s += ", " + count(a.Rate5m, "requests") + " in 5 minutes"
	}
	if a.Change.Text != "" && (a.Change.Kind != "opened" || strings.HasPrefix(a.Change.Text, brokeOut)) {
		s += "; new: " + a.Change.Text
	}
	return s + "; last seen " + clock(a.Window.Last)
}

// success says whether it worked, and how sure that is.
func success(a *pipeline.Alert) string {
	o := &a.Outcome
	t := count(o.Attempted, noun(a.Detector))
	var s string
	switch {
	case o.Succeeded == nil:
		s = "not known of " + t + ": here weir cannot tell success from failure yet"
	case *o.Succeeded <= 0 && o.Basis == "unknown":
		s = "nothing seen to succeed of " + t + ", but weir does not know what success looks like here"
	case *o.Succeeded <= 0:
		s = "no, 0 of " + t
	case o.Basis == "configured" || o.Basis == "learned":
		s = fmt.Sprintf("YES, %s of %s %s", thousands(*o.Succeeded), thousands(o.Attempted), worked(a.Detector, o.Attempted))
	default:
		s = fmt.Sprintf("probably, %s of %s %s, judged by status code alone",
			thousands(*o.Succeeded), thousands(o.Attempted), worked(a.Detector, o.Attempted))
	}
	var names []string
	for _, acc := range a.Affected.Accounts {
		if acc.Outcome == "success" && len(names) < 3 {
			names = append(names, clip(acc.Name, 40))
		}
	}
	if len(names) > 0 && o.Succeeded != nil {
		s += ": " + strings.Join(names, ", ")
		if n := *o.Succeeded - int64(len(names)); n > 0 {
			s += " and " + thousands(n) + " more"
		}
	}
	if o.Blocked != nil && *o.Blocked > 0 {
		s += "; " + thousands(*o.Blocked) + " blocked"
		if o.BlockedBy != "" {
			s += " by " + o.BlockedBy
		}
	}
	return s
}

// odds puts the score into words.
func odds(a *pipeline.Alert) string {
	o := a.Score.Odds
	if o.OneIn < 2 {
		return "nothing that an ordinary client would not do"
	}
	does, most := "this", "at most "
	if o.Unit == "endpoint-day" {
		return "chance alone gets that far about once in " + count(int64(o.OneIn), "days") + " at this endpoint"
	}
	if a.Level == "campaign" && !isScan(a) {
		return "chance alone gets that far at most once in " + big(uint64(o.OneIn)) + " tries"
	}
	if isScan(a) {
		does = "what the worst of them did"
	}
	if o.Basis == "calibrated" {
		most = "about "
	}
	return "an ordinary client does " + does + " on " + most + "one day in " + big(uint64(o.OneIn))
}

// isScan reports whether a is a day's background scanning.
func isScan(a *pipeline.Alert) bool {
	return a.Level == "campaign" && a.MembersTotal > 0 && family(a.Detector) == "probe"
}

// big writes a large number as people say it: "11 billion".
func big(n uint64) string {
	for _, u := range []struct {
		unit uint64
		word string
	}{{1e12, " trillion"}, {1e9, " billion"}, {1e6, " million"}} {
		if n >= u.unit {
			whole, tenth := n/u.unit, n%u.unit/(u.unit/10)
			if whole >= 10 || tenth == 0 {
				return thousands(int64(whole)) + u.word
			}
			return fmt.Sprintf("%d.%d%s", whole, tenth, u.word)
		}
	}
	return thousands(int64(n))
}

// silence says what hides a, else the least that keeps alerts like it from people: a
// suppression of whom it is about, and only of what is nobody in particular the mode.
func silence(a *pipeline.Alert, stored bool) string {
	if hidden := Hidden(a); hidden != "" {
		return hidden
	}
	if stored {
		return "weir suppress add --alert " + printable(a.ID) + " --reason WHY"
	}
	switch a.Principal.Kind {
	case pipeline.PrincipalNone, pipeline.PrincipalCohort, pipeline.PrincipalEndpoint:
		return "in weir.yaml, detect: {" + printable(a.Detector) + ": {mode: shadow}}"
	}
	return "in weir.yaml, under alerts.suppressions: {match: {detector: " + printable(a.Detector) + ", principal: " + strconv.Quote(a.Principal.Kind.String()+":"+printable(a.Principal.Value)) + "}, until: DATE, reason: WHY}"
}

// detail is what only some want to see.
func detail(a *pipeline.Alert) string {
	var b strings.Builder
	fmt.Fprintf(&b, "id %s.%d, %.2f nats (page %.2f)", a.ID, a.Revision, a.Score.Nats, a.Score.PageAt)
	for i, g := range a.Signals {
		fmt.Fprintf(&b, "%s%s %.2f", []string{" = ", " + "}[min(i, 1)], g.Name, g.Nats)
	}
	if a.Campaign != "" {
		b.WriteString(", campaign " + a.Campaign)
	}
	return b.String()
}
