package alerts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"weir/pipeline"
)

// SlackConfig configures an incoming webhook of Slack, or of what understands
// Slack's blocks (Mattermost, Rocket.Chat):
//
//	{"text":"HIGH Credential stuffing …","blocks":[{"type":"header",…},{"type":"section",…}]}
//
// An incoming webhook cannot change what it said: each revision is a message.
type SlackConfig struct {
	URLFile      string   `yaml:"url_file"` // the address is the secret
	InsecureHTTP bool     `yaml:"insecure_http"`
	CAFile       string   `yaml:"ca_file"`
	Timeout      Duration `yaml:"timeout"`
}

func (c *SlackConfig) validate() []error {
	e := endpointConfig{"https://hooks.slack.com/", c.InsecureHTTP, c.CAFile, "", "", c.Timeout}
	errs := e.validate()
	if c.URLFile == "" {
		errs = append(errs, errors.New("url_file: is missing"))
	}
	return errs
}

type slack struct{ call *caller }

func newSlack(c SlackConfig, o SinkOptions) (*slack, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open slack: %w", err)
	}
	address, err := readSecret(c.URLFile)
	if err != nil {
		return nil, fmt.Errorf("open slack: %w", err)
	}
	if _, err := url.Parse(address); err != nil {
		return nil, errors.New("open slack: url_file holds no address")
	}
	e := endpointConfig{URL(address), c.InsecureHTTP, c.CAFile, "", "", c.Timeout}
	if err := errors.Join(e.validate()...); err != nil {
		return nil, fmt.Errorf("open slack: url_file: %w", err)
	}
	call, err := newCaller(e, o)
	if err != nil {
		return nil, fmt.Errorf("open slack: %w", err)
	}
	return &slack{call: call}, nil
}

// Send posts a message for each alert; that one is still active is no news.
func (s *slack) Send(ctx context.Context, batch []pipeline.Alert) error {
	for i := range batch {
		a := &batch[i]
		if a.Change.Kind == "still_active" && a.Status != "resolved" {
			continue
		}
		h := http.Header{}
		h.Set("Content-Type", "application/json")
		ans, err := s.call.post(ctx, s.call.url.String(), h, appendObject(nil, slackMessage(a)), answerRest)
		if err == nil {
			err = ans.verdict()
		}
		if err != nil {
			return fmt.Errorf("send alert to %s: %w", s.call.host(), err)
		}
	}
	return nil
}

func slackMessage(a *pipeline.Alert) object {
	head := strings.ToUpper(a.Severity) + "  " + a.Title
	if a.Status == "resolved" {
		head = "Over: " + a.Title
	}
	blocks := []object{{"type": "header", "text": object{"type": "plain_text", "text": cut(head, 150)}}}
	section := func(text string) {
		blocks = append(blocks, object{"type": "section", "text": object{"type": "mrkdwn", "text": cut(text, 2900)}})
	}
	if a.Reason != "" {
		section(slackText(a.Reason))
	}
	if a.Revision > 1 && a.Change.Text != "" {
		section("*New:* " + slackText(a.Change.Text))
	}
	if a.Status != "resolved" && len(a.Next) > 0 {
		var list []string
		for _, n := range a.Next {
			list = append(list, "• "+slackText(n))
		}
		section("*Next:*\n" + strings.Join(list, "\n"))
	}
	foot := slackText(a.Detector + " · " + revisionOf(a))
	if len(a.BenignIf) > 0 && a.Status != "resolved" {
		foot = "Harmless if " + slackText(strings.Join(a.BenignIf, ", or ")) + " · " + foot
	}
	if u := link(a); strings.HasPrefix(u, "https://") && !strings.ContainsAny(u, "<>|") {
		foot += " · <" + u + "|open>"
	}
	blocks = append(blocks, object{"type": "context", "elements": []object{{"type": "mrkdwn", "text": cut(foot, 2900)}}})
	return object{"text": slackText(cut(head, 150)), "blocks": blocks}
}

// slackText escapes what Slack reads as links, mentions and entities.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
