package console

import (
	"bytes"
	"encoding/json"
	"net/http"

	"weir/pipeline"
)

// ShadowFilter selects cases of detectors in shadow mode. Zero fields select
// everything; times are those of a case's latest news.
type ShadowFilter struct {
	Since, Until pipeline.Time
	Detector     string
	Principal    pipeline.Principal
	Limit        int // never 0
}

// ShadowCase is what a detector in shadow mode found: kept, and never told.
type ShadowCase struct {
	ID        string              `json:"id"` // that of the alert that it would be
	Detector  string              `json:"detector"`
	Level     string              `json:"level"`
	Tier      string              `json:"tier"` // that its evidence is enough for: page or review
	Title     string              `json:"title"`
	Reason    string              `json:"reason"`
	Principal pipeline.Principal  `json:"principal"`
	Endpoint  pipeline.Endpoint   `json:"endpoint"`
	Addresses []string            `json:"addresses"`
	Time      pipeline.Time       `json:"time"` // of its latest news
	First     pipeline.Time       `json:"first"`
	Last      pipeline.Time       `json:"last"`
	Score     float64             `json:"score"` // nats
	Signals   []ShadowSignal      `json:"signals"`
	Exemplars []pipeline.Exemplar `json:"exemplars"`
}

// ShadowSignal is a line of the evidence.
type ShadowSignal struct {
	Name     string  `json:"name"`
	Observed float64 `json:"observed"`
	Expected float64 `json:"expected"`
	Nats     float64 `json:"nats"`
}

// NewShadowCase is f as the API shows it.
func NewShadowCase(f *pipeline.Finding) ShadowCase {
	c := ShadowCase{
		ID: f.ID, Detector: f.Detector, Level: f.Level, Tier: "review", Title: f.Title, Reason: f.Reason, Principal: f.Who, Endpoint: f.Endpoint,
		Addresses: f.Addresses, Time: f.Time, First: f.First, Last: f.Last, Score: f.Score.Float(), Signals: []ShadowSignal{}, Exemplars: f.Exemplars,
	}
	if f.Score >= pipeline.PageAt {
		c.Tier = "page"
	}
	if c.Addresses == nil {
		c.Addresses = []string{}
	}
	if c.Exemplars == nil {
		c.Exemplars = []pipeline.Exemplar{}
	}
	for _, s := range f.Signals {
		c.Signals = append(c.Signals, ShadowSignal{s.Name, s.Observed, s.Expected, s.Nats.Float()})
	}
	return c
}

// shadow answers {"data":[...],"more":BOOL}, the newest first.
func (c *console) shadow(r *http.Request) ([]byte, error) {
	q := newQuery(r.URL.RawQuery)
	f := ShadowFilter{Detector: q.one("detector", "a detector's name, like auth.bruteforce"), Principal: q.principal("principal")}
	if f.Detector != "" && !isDetector(f.Detector) {
		q.bad("detector", f.Detector, "a detector's name, like auth.bruteforce")
	}
	f.Since, f.Until = q.window()
	limit := int(q.number("limit", alertsLimit, 1, maxAlerts))
	if err := q.err(); err != nil {
		return nil, err
	}
	f.Limit = limit + 1
	list, err := c.Store.ShadowCases(r.Context(), f)
	if err != nil {
		return nil, err
	}
	out := []byte(`{"data":[`)
	n := 0
	for i := range list[:min(len(list), limit)] {
		line, err := json.Marshal(list[i])
		if err != nil {
			return nil, err
		}
		if n > 0 && len(out)+len(line) > maxAnswer {
			break
		}
		if n > 0 {
			out = append(out, ',')
		}
		out = appendPrintable(append(out, '\n'), bytes.TrimSuffix(line, []byte("\n")))
		n++
	}
	if n < len(list) {
		return append(out, "\n],\"more\":true}\n"...), nil
	}
	return append(out, "\n],\"more\":false}\n"...), nil
}
