package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"weir/pipeline"
)

// What a preview looks at.
const (
	previewDays, maxPreviewDays = 7, 90
	maxPreviewed                = 20_000 // alerts
	previewSample               = 20
)

// suppressionPreview is what a suppression would have hidden.
type suppressionPreview struct {
	Alerts    int             `json:"alerts"`
	Pages     int             `json:"pages"`     // of these
	Succeeded int             `json:"succeeded"` // of these, with some success
	Days      int             `json:"days"`
	Truncated bool            `json:"truncated"` // there was more than is looked at
	Sample    []previewedView `json:"sample"`
}

// previewedView names an alert.
type previewedView struct {
	ID       string        `json:"id"`
	Title    string        `json:"title"`
	Detector string        `json:"detector"`
	Severity string        `json:"severity"`
	Last     pipeline.Time `json:"last"`
}

// preview answers what a suppression would have hidden lately. Nothing changes.
func (c *console) preview(w http.ResponseWriter, r *http.Request, who *caller) {
	q, s, err := c.readSuppression(r)
	if err == nil && (q.Days < 0 || q.Days > maxPreviewDays) {
		err = &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("days: 1 to %d", maxPreviewDays)}
	}
	if err == nil {
		s.Reason = strings.Repeat("-", pipeline.MinSuppressionReason) // it is not asked for yet
		err = checkSuppression(&s)
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	if q.Days == 0 {
		q.Days = previewDays
	}
	c.api(func(r *http.Request) ([]byte, error) {
		p, err := previewOf(r.Context(), c.Store, &s.Match, q.Days)
		if err != nil {
			return nil, err
		}
		return printed(p)
	})(w, r, who)
}

// checkSuppression makes a *problem of what is wrong with s.
func checkSuppression(s *pipeline.Suppression) error {
	if err := s.Validate(); err != nil {
		return &problem{Status: http.StatusBadRequest, Detail: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return nil
}

func previewOf(ctx context.Context, store Store, m *pipeline.SuppressionMatch, days int) (p suppressionPreview, err error) {
	p.Days, p.Sample = days, []previewedView{}
	f := AlertFilter{Since: pipeline.TimeOf(time.Now().AddDate(0, 0, -days)), Limit: maxAlerts}
	if isDetector(m.Detector) && !strings.Contains(m.Detector, "*") {
		f.Detector = m.Detector
	}
	if m.Principal != nil {
		f.Principal = *m.Principal
	}
	for looked := 0; ; {
		list, err := store.Alerts(ctx, f)
		if err != nil {
			return p, err
		}
		for i := range list {
			var a pipeline.Alert
			if err := json.Unmarshal(list[i].JSON, &a); err != nil {
				return p, fmt.Errorf("read an alert: %w", err)
			}
			f.BeforeSeq = list[i].Seq
			if x := pipeline.SilencedAlert(&a); m.Covers(&x) {
				p.add(&a)
			}
		}
		if looked += len(list); len(list) < f.Limit {
			return p, nil
		} else if looked >= maxPreviewed {
			p.Truncated = true
			return p, nil
		}
	}
}

func (p *suppressionPreview) add(a *pipeline.Alert) {
	p.Alerts++
	if a.Severity == "high" || a.Severity == "critical" {
		p.Pages++
	}
	if a.Outcome.Succeeded != nil && *a.Outcome.Succeeded > 0 {
		p.Succeeded++
	}
	if len(p.Sample) < previewSample {
		p.Sample = append(p.Sample, previewedView{a.ID, a.Title, a.Detector, a.Severity, a.Window.Last})
	}
}

// proposedSuppression is the smallest one that would have covered an alert, ready to
// be sent back.
type proposedSuppression struct {
	Match  matchView `json:"match"`
	For    string    `json:"for"`
	Reason string    `json:"reason"`
	Alert  string    `json:"alert"`
}

// propose returns it: the detector and the principal, and the endpoint if all the
// examples are at it.
func propose(a *pipeline.Alert, reason string) *proposedSuppression {
	m := pipeline.SuppressionMatch{Detector: a.Detector, Principal: &pipeline.Principal{Kind: a.Principal.Kind, Value: a.Principal.Value}}
	if e := a.Endpoint; e.Template != "" && onlyAt(&e, a.Exemplars) {
		m.Endpoint = &pipeline.EndpointMatch{Method: e.Method, Host: e.Host, Template: e.Template}
	}
	return &proposedSuppression{Match: viewOfMatch(&m), For: "24h", Reason: reason, Alert: a.ID}
}

// onlyAt reports whether every example is at e, as far as its path tells.
func onlyAt(e *pipeline.Endpoint, list []pipeline.Exemplar) bool {
	template, _, _ := strings.Cut(e.Template, "?")
	want := strings.Split(template, "/")
	for i := range list {
		if !strings.EqualFold(list[i].Method, e.Method) {
			return false
		}
		if template == "{unknown}" {
			continue
		}
		path, _, _ := strings.Cut(list[i].Path, "?")
		got := strings.Split(path, "/")
		if len(got) != len(want) {
			return false
		}
		for j, w := range want {
			if !strings.HasPrefix(w, "{") && !strings.EqualFold(w, got[j]) {
				return false
			}
		}
	}
	return true
}

// proposal is what a verdict proposes, nil where it says that the alert was right.
func (c *console) proposal(ctx context.Context, id, verdict, comment string) (*proposedSuppression, error) {
	if verdict != "benign_positive" && !strings.HasPrefix(verdict, "false_positive_") {
		return nil, nil
	}
	list, err := c.Store.Alert(ctx, id)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var a pipeline.Alert
	if err := json.Unmarshal(list[len(list)-1].JSON, &a); err != nil {
		return nil, fmt.Errorf("read an alert: %w", err)
	}
	reason := strings.ReplaceAll(verdict, "_", " ")
	if line, _, _ := strings.Cut(comment, "\n"); line != "" && len(line) < 400 {
		reason += ": " + line
	}
	return propose(&a, reason), nil
}
