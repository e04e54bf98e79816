package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"weir/pipeline"
)

// printedRefs bounds the lists of the text form; JSON has all.
const printedRefs = 20

// WriteText prints e for people. Errors of w are returned once, at the end.
func (e *Evaluation) WriteText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "episodes\t%d, %d detected\trecall %s\n", e.Episodes, e.Detected, showPercent(e.Recall))
	for _, t := range e.Types {
		fmt.Fprintf(tw, "  %s\t%d of %d, %d paged\trecall %s, after %s s, %s requests\n", t.Type, t.Detected, t.Episodes, t.Paged, showPercent(&t.Recall),
			showFloat(t.SecondsMedian, 1), showInt(t.RequestsMedian))
	}
	fmt.Fprintf(tw, "alerts\t%d: %d matched, %d false, %d misnamed\tprecision %s\n", e.Alerts, e.Matched, e.False, e.Misnamed, showPercent(e.Precision))
	fmt.Fprintf(tw, "  apart\t%d health, %d info\n", e.Health, e.Info)
	fmt.Fprintf(tw, "time to detect\tmedian %s s, %s requests\tp95 %s s, %s requests\n",
		showFloat(e.SecondsMedian, 1), showInt(e.RequestsMedian), showFloat(e.SecondsP95, 1), showInt(e.RequestsP95))
	fmt.Fprintf(tw, "false alerts\t%s per million requests\t%s per million clean client-days\n",
		showFloat(e.FalsePerMillionRequests, 2), showFloat(e.FalsePerMillionClientDays, 1))
	fmt.Fprintf(tw, "traffic\t%s requests, %s clean client-days\t%s days\n", showInt(e.Requests), showInt(e.CleanClientDays), showFloat(e.Days, 2))
	for _, p := range e.Profiles {
		fmt.Fprintf(tw, "  %s\t%d false\t%d clients, %s requests\n", showText(p.Profile), p.False, p.Clients, showInt(p.Requests))
	}
	fmt.Fprintf(tw, "alerts per episode\t%s\npages\t%d\t%s per day\n", showFloat(e.AlertsPerEpisode, 2), e.Pages, showFloat(e.PagesPerDay, 2))
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write evaluation: %w", err)
	}
	var b strings.Builder
	e.appendLists(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write evaluation: %w", err)
	}
	return nil
}

// appendLists writes the missed episodes and the false alerts.
func (e *Evaluation) appendLists(b *strings.Builder) {
	missed := 0
	for _, r := range e.Results {
		if r.Detector != "" {
			continue
		}
		if missed++; missed <= printedRefs {
			fmt.Fprintf(b, "missed  %s  %s  %s requests\n", showText(r.Episode), r.Type, showInt(r.Of))
		}
	}
	if missed > printedRefs {
		fmt.Fprintf(b, "missed  and %d more\n", missed-printedRefs)
	}
	for i, a := range e.FalseAlerts {
		if i == printedRefs {
			fmt.Fprintf(b, "false   and %d more\n", e.False+e.Misnamed-printedRefs)
			break
		}
		word := "false   "
		if a.Misnamed {
			word = "misnamed"
		}
		fmt.Fprintf(b, "%s  %s  [%s, %s]  %s\n", word, showText(a.Title), a.Detector, a.Severity, showText(a.About))
	}
}

// WriteJSON writes e as one JSON object on one line.
func (e *Evaluation) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return fmt.Errorf("write evaluation: %w", err)
	}
	return nil
}

// ReadAlerts reads alert revisions, one JSON object a line, as `--output json`
// writes them. Lines of another schema are an error that names the line.
func ReadAlerts(r io.Reader) ([]pipeline.Alert, error) {
	dec := json.NewDecoder(r)
	var all []pipeline.Alert
	for n := 1; ; n++ {
		var a pipeline.Alert
		if err := dec.Decode(&a); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read alert %d: %w", n, err)
		}
		if a.Schema != pipeline.AlertSchema {
			return nil, fmt.Errorf("read alert %d: schema %q, want %q", n, a.Schema, pipeline.AlertSchema)
		}
		all = append(all, a)
	}
}

func showPercent(f *float64) string {
	if f == nil {
		return "-"
	}
	return strconv.FormatFloat(*f*100, 'f', 1, 64) + " %"
}

func showFloat(f *float64, digits int) string {
	if f == nil {
		return "-"
	}
	return strconv.FormatFloat(*f, 'f', digits, 64)
}

func showInt(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

// showText keeps a value that an attacker may have written from moving a
// terminal's cursor.
func showText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
