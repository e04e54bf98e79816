package alerts

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"weir/pipeline"
)

// PagerDutyConfig configures PagerDuty's Events API v2:
//
//	POST /v2/enqueue
//	{"routing_key":"…","event_action":"trigger","dedup_key":"7f3c9a…","payload":{"summary":"…","source":"203.0.113.7","severity":"error",…}}
//
// dedup_key is the alert's id, so that an incident is one page however many
// revisions it has, and its end resolves it.
type PagerDutyConfig struct {
	RoutingKeyFile string   `yaml:"routing_key_file"`
	URL            URL      `yaml:"url"` // https://events.pagerduty.com/v2/enqueue when empty
	InsecureHTTP   bool     `yaml:"insecure_http"`
	CAFile         string   `yaml:"ca_file"`
	Timeout        Duration `yaml:"timeout"`
}

const pagerDutyURL = "https://events.pagerduty.com/v2/enqueue"

func (c *PagerDutyConfig) endpoint() endpointConfig {
	e := endpointConfig{c.URL, c.InsecureHTTP, c.CAFile, "", "", c.Timeout}
	if e.url == "" {
		e.url = pagerDutyURL
	}
	return e
}

func (c *PagerDutyConfig) validate() []error {
	e := c.endpoint()
	errs := e.validate()
	if c.RoutingKeyFile == "" {
		errs = append(errs, errors.New("routing_key_file: is missing"))
	}
	return errs
}

type pagerDuty struct {
	cfg  PagerDutyConfig
	call *caller
}

func newPagerDuty(c PagerDutyConfig, o SinkOptions) (*pagerDuty, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open pagerduty: %w", err)
	}
	if _, err := readSecret(c.RoutingKeyFile); err != nil {
		return nil, fmt.Errorf("open pagerduty: %w", err)
	}
	call, err := newCaller(c.endpoint(), o)
	if err != nil {
		return nil, fmt.Errorf("open pagerduty: %w", err)
	}
	return &pagerDuty{cfg: c, call: call}, nil
}

// Send enqueues an event for each alert; that one is still active is no news.
func (s *pagerDuty) Send(ctx context.Context, batch []pipeline.Alert) error {
	for i := range batch {
		a := &batch[i]
		if a.Change.Kind == "still_active" && a.Status != "resolved" {
			continue
		}
		key, err := readSecret(s.cfg.RoutingKeyFile)
		if err != nil {
			return err
		}
		h := http.Header{}
		h.Set("Content-Type", "application/json")
		ans, err := s.call.post(ctx, s.call.url.String(), h, appendObject(nil, pagerDutyEvent(a, key)), answerRest)
		if err == nil {
			err = ans.verdict()
		}
		if err != nil {
			return fmt.Errorf("send alert to %s: %w", s.call.host(), err)
		}
	}
	return nil
}

func pagerDutyEvent(a *pipeline.Alert, key string) object {
	o := object{"routing_key": key, "event_action": "trigger", "dedup_key": cut(a.ID, 255), "client": "weir"}
	if a.Status == "resolved" {
		o["event_action"] = "resolve"
		return o
	}
	source := a.Principal.Value
	if source == "" {
		source = "weir"
	}
	details := object{
		"reason": a.Reason, "change": a.Change.Text, "revision": a.Revision, "severity": a.Severity, "requests": a.Outcome.Requests,
		"odds": odds(a), "evidence": cefEvidence(a),
	}
	details.put("next", a.Next)
	details.put("benign_if", a.BenignIf)
	details.put("addresses", a.Addresses)
	details.put("attack", a.Attack)
	details.put("campaign", a.Campaign)
	details.putNumber("succeeded", a.Outcome.Succeeded)
	p := object{"summary": cut(a.Title+": "+a.Reason, 1024), "source": cut(source, 255), "severity": severityOf(a.Severity).pagerDuty, "class": a.Detector, "custom_details": details}
	p.putStamp("timestamp", changedAt(a))
	p.put("component", operation(a.Endpoint))
	p.put("group", a.Labels["service"])
	o["payload"] = p
	if u := link(a); u != "" {
		o["client_url"] = u
		o["links"] = []object{{"href": u, "text": "Alert in weir"}}
	}
	return o
}
