package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// defaultListed bounds the lists of the text form.
const defaultListed = 20

// writeText prints r for people.
func (r *backtestResult) writeText(w io.Writer, list int) error {
	list = cmp.Or(list, defaultListed)
	fmt.Fprintf(w, "old  %s\nnew  %s\n", printable(r.Sides.Old), printable(r.Sides.New))
	writeChanges(w, r.Changes)
	fmt.Fprintf(w, "%d alerts gained, %d lost, %d moved, %d the same\n", r.GainedTotal, r.LostTotal, r.MovedTotal, r.Same)
	r.weighText(w)
	r.listText(w, "gained", "+", r.Gained, list)
	r.listText(w, "lost", "-", r.Lost, list)
	r.listText(w, "moved", "~", r.Moved, list)
	for _, e := range r.Episodes {
		fmt.Fprintf(w, "episode %s (%s): %s\n", showText(e.Episode), showText(e.Type), map[string]string{"gained": "detected now", "lost": "missed now"}[e.Change])
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n\told\tnew\n")
	fmt.Fprintf(t, "alerts\t%d\t%d\n", r.Alerts.Old, r.Alerts.New)
	fmt.Fprintf(t, "alerts a day\t%.1f\t%.1f\n", r.AlertsADay.Old, r.AlertsADay.New)
	fmt.Fprintf(t, "pages a day\t%.1f\t%.1f\n", r.PagesADay.Old, r.PagesADay.New)
	if r.Basis != "" {
		fmt.Fprintf(t, "precision by %s\t%s\t%s\n", r.Basis, showPercent(r.Precision.Old), showPercent(r.Precision.New))
		fmt.Fprintf(t, "recall by %s\t%s\t%s\n", r.Basis, showPercent(r.Recall.Old), showPercent(r.Recall.New))
	}
	fmt.Fprintf(t, "median delay\t%s s\t%s s\n", showFloat(r.Delay.Old, 1), showFloat(r.Delay.New, 1))
	if n, o := sum(r.Shadow.New), sum(r.Shadow.Old); n+o > 0 {
		fmt.Fprintf(t, "cases in shadow mode\t%d\t%d\n", o, n)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.First != nil {
		fmt.Fprintf(w, "\n%d requests from %s to %s\n", r.Requests, r.First.Std().Format(time.RFC3339), r.Last.Std().Format(time.RFC3339))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", printable(n))
	}
	return nil
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// weighText says of what is gained and lost what weighs: pages, and what people had
// said of it.
func (r *backtestResult) weighText(w io.Writer) {
	for _, l := range []struct {
		name string
		all  []backtestAlert
	}{{"gained", r.Gained}, {"lost", r.Lost}} {
		pages, verdicts, by := 0, map[string]int{}, map[string]int{}
		for i := range l.all {
			a := &l.all[i]
			if by[a.Detector]++; a.Paged {
				pages++
			}
			if a.Verdict != "" {
				verdicts[a.Verdict]++
			}
		}
		if len(l.all) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s: %s; %d paged; judged: %s\n", l.name, countsText(by), pages, cmp.Or(countsText(verdicts), "none"))
	}
}

// countsText is "12 a, 3 b", the most first.
func countsText(m map[string]int) string {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(m[b]-m[a], strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", m[name], name)
	}
	return strings.Join(names, ", ")
}

// firstToRead orders a list for people: what was judged right first, then what weighs.
func firstToRead(all []backtestAlert) []backtestAlert {
	severities := []string{"info", "low", "medium", "high", "critical"}
	rank := func(a *backtestAlert) int {
		n := slices.Index(severities, a.Severity)
		if a.Verdict == "true_positive" {
			n += len(severities)
		}
		return n
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b backtestAlert) int { return rank(&b) - rank(&a) })
	return all
}

func (r *backtestResult) listText(w io.Writer, name, mark string, all []backtestAlert, list int) {
	for i, a := range firstToRead(all) {
		if i == list {
			fmt.Fprintf(w, "%s and %d more %s; --list N or --output json\n", mark, len(all)-list, name)
			return
		}
		fmt.Fprintf(w, "%s %s  %s %s  %s  %s%s\n", mark, a.ID, strings.ToUpper(a.Severity), a.Detector, a.Detected.Std().Format(time.RFC3339), printable(a.Title),
			map[bool]string{true: "  (" + a.Verdict + ")"}[a.Verdict != ""])
		if parts := a.movedText(); len(parts) > 0 {
			fmt.Fprintf(w, "    %s\n", strings.Join(parts, ", "))
		}
		fmt.Fprintf(w, "    %s\n", printable(a.Why))
		if a.Link != "" {
			fmt.Fprintf(w, "    %s\n", printable(a.Link))
		}
	}
}

// movedText is what of a moved alert was otherwise.
func (a *backtestAlert) movedText() (parts []string) {
	for _, c := range a.Changed {
		switch c {
		case "severity":
			parts = append(parts, "severity "+a.Was.Severity+" → "+a.Severity)
		case "tier":
			parts = append(parts, "tier "+a.Was.Tier+" → "+a.Tier)
		case "detector":
			parts = append(parts, "detector "+a.Was.Detector+" → "+a.Detector)
		case "time":
			parts = append(parts, fmt.Sprintf("told %s", signedSeconds(a.Detected.Sub(a.Was.Detected))))
		case "suppressed":
			parts = append(parts, map[bool]string{true: "kept from sinks now", false: "sent now"}[a.Silent])
		case "paged":
			parts = append(parts, map[bool]string{true: "pages now", false: "pages no more"}[a.Paged])
		case "id":
			parts = append(parts, "id was "+a.Was.ID)
		}
	}
	return parts
}

func signedSeconds(d time.Duration) string {
	if d < 0 {
		return (-d).String() + " earlier"
	}
	return d.String() + " later"
}

func writeChanges(w io.Writer, list []configChange) {
	for _, c := range list {
		fmt.Fprintf(w, "  %s: %s → %s\n", printable(c.Path), printable(cmp.Or(c.Old, "unset")), printable(cmp.Or(c.New, "unset")))
	}
}
