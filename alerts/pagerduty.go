package alerts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"weir/pipeline"
)

// PagerDutyConfig configures PagerDuty's Events API v2:
//
//	POST /v2/enqueue
//	{"routing_key":"…","event_action":"trigger","dedup_key":"7f3c9a…","payload":{"summary":"…","source":"203.0.113.7","severity":"error",…}}
//
// dedup_key is the alert's id, or the group's where a route groups, so that an
// incident or a group is one page however many revisions it has; the end of the last
// one resolves it.
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

// Send enqueues an event for each alert by itself.
func (s *pagerDuty) Send(ctx context.Context, batch []pipeline.Alert) error {
	return oneByOne(ctx, s, batch)
}

// SendGroup enqueues one event for the group: a trigger with its news, or a resolve
// when none of it is open any more. That some of it ended is no news.
func (s *pagerDuty) SendGroup(ctx context.Context, g *Group) error {
	list := slices.DeleteFunc(g.news(), func(a *pipeline.Alert) bool { return a.Status == "resolved" && !isEnd(a) })
	if g.Open > 0 {
		list = slices.DeleteFunc(list, func(a *pipeline.Alert) bool { return a.Status == "resolved" })
	}
	if len(list) == 0 {
		return nil
	}
	key, err := readSecret(s.cfg.RoutingKeyFile)
	if err != nil {
		return err
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	ans, err := s.call.post(ctx, s.call.url.String(), h, appendObject(nil, pagerDutyEvent(g, list, key)), answerRest)
	if err == nil {
		err = ans.verdict()
	}
	if err != nil {
		return fmt.Errorf("send alert to %s: %w", s.call.host(), err)
	}
	return nil
}

// maxNamed is how many alerts of a group people are shown by name.
const maxNamed = 20

func pagerDutyEvent(g *Group, list []*pipeline.Alert, key string) object {
	o := object{"routing_key": key, "event_action": "trigger", "dedup_key": cut(g.Key, 255), "client": "weir"}
	if g.Open == 0 {
		o["event_action"] = "resolve"
		return o
	}
	a := gravest(list)
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
	summary := a.Title + ": " + a.Reason
	if g.By != nil {
		summary = g.headline() + "; " + summary
		details.put("alerts", listed(list, maxNamed))
		details["open"] = g.Open
		for _, c := range g.By {
			details.put("by "+c.Name, c.Value)
		}
	}
	p := object{"summary": cut(summary, 1024), "source": cut(source, 255), "severity": severityOf(a.Severity).pagerDuty, "class": a.Detector, "custom_details": details}
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
