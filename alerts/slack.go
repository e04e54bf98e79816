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
// An incoming webhook cannot answer what it said: each revision is a message. With a
// bot's token (chat:write) an incident, or a group where a route groups, is one thread:
//
//	POST /api/chat.postMessage      Authorization: Bearer xoxb-…
//	{"channel":"C…","thread_ts":"1732248000.000100","text":"…","blocks":[…]}
type SlackConfig struct {
	URLFile      string   `yaml:"url_file"`   // of an incoming webhook: the address is the secret
	TokenFile    string   `yaml:"token_file"` // of a bot, in its place
	Channel      string   `yaml:"channel"`    // of the bot: an id like C0123456789, or #name
	URL          URL      `yaml:"url"`        // https://slack.com/api/ when empty
	InsecureHTTP bool     `yaml:"insecure_http"`
	CAFile       string   `yaml:"ca_file"`
	Timeout      Duration `yaml:"timeout"`
}

func (c *SlackConfig) validate() []error {
	e := c.endpoint()
	errs := e.validate()
	switch {
	case c.URLFile == "" && c.TokenFile == "":
		errs = append(errs, errors.New("url_file: is missing, and there is no token_file"))
	case c.URLFile != "" && c.TokenFile != "":
		errs = append(errs, errors.New("url_file: there is token_file too; give the one of a webhook or of a bot"))
	case c.TokenFile != "" && c.Channel == "":
		errs = append(errs, errors.New("channel: is missing"))
	case c.TokenFile == "" && (c.Channel != "" || c.URL != ""):
		errs = append(errs, errors.New("channel: and url are for token_file; an incoming webhook has its channel"))
	}
	return errs
}

const slackURL = "https://slack.com/api/"

// endpoint is where a bot posts; the address of a webhook is read from its file.
func (c *SlackConfig) endpoint() endpointConfig {
	e := endpointConfig{c.URL, c.InsecureHTTP, c.CAFile, "", "", c.Timeout}
	if e.url == "" {
		e.url = slackURL
	}
	return e
}

type slack struct {
	call *caller
	cfg  SlackConfig
}

func newSlack(c SlackConfig, o SinkOptions) (*slack, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open slack: %w", err)
	}
	e := c.endpoint()
	secret := c.TokenFile
	if secret == "" {
		secret = c.URLFile
	}
	said, err := readSecret(secret)
	if err != nil {
		return nil, fmt.Errorf("open slack: %w", err)
	}
	if c.TokenFile == "" {
		if _, err := url.Parse(said); err != nil {
			return nil, errors.New("open slack: url_file holds no address")
		}
		e.url = URL(said)
	}
	if err := errors.Join(e.validate()...); err != nil {
		return nil, fmt.Errorf("open slack: url_file: %w", err)
	}
	call, err := newCaller(e, o)
	if err != nil {
		return nil, fmt.Errorf("open slack: %w", err)
	}
	return &slack{call: call, cfg: c}, nil
}

// Send posts a message for each alert by itself.
func (s *slack) Send(ctx context.Context, batch []pipeline.Alert) error {
	return oneByOne(ctx, s, batch)
}

// SendGroup posts one message with the news of the group.
func (s *slack) SendGroup(ctx context.Context, g *Group) error {
	list := g.news()
	if len(list) == 0 {
		return nil
	}
	m := slackGroup(g, list)
	var err error
	if s.cfg.TokenFile == "" {
		err = s.hook(ctx, m)
	} else {
		err = s.bot(ctx, g, m)
	}
	if err != nil {
		return fmt.Errorf("send alert to %s: %w", s.call.host(), err)
	}
	return nil
}

// hook posts to an incoming webhook.
func (s *slack) hook(ctx context.Context, m object) error {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	ans, err := s.call.post(ctx, s.call.url.String(), h, appendObject(nil, m), answerRest)
	if err != nil {
		return err
	}
	return ans.verdict()
}

// slackGroup is the message of a group's news.
func slackGroup(g *Group, list []*pipeline.Alert) object {
	if g.By == nil && len(list) == 1 && g.Repeat == 0 {
		return slackMessage(list[0])
	}
	a := gravest(list)
	head := strings.ToUpper(a.Severity) + "  " + a.Title
	if g.By != nil {
		head = g.headline()
	}
	if g.Repeat > 0 {
		head = "Still open: " + head
	}
	var text strings.Builder
	for _, l := range listed(list, maxNamed) {
		text.WriteString("• " + slackText(l) + "\n")
	}
	blocks := []object{
		{"type": "header", "text": object{"type": "plain_text", "text": cut(head, 150)}},
		{"type": "section", "text": object{"type": "mrkdwn", "text": cut(text.String(), 2900)}},
		{"type": "context", "elements": []object{{"type": "mrkdwn", "text": cut(slackText("weir · "+g.Key), 2900)}}},
	}
	return object{"text": slackText(cut(head, 150)), "blocks": blocks}
}

func slackMessage(a *pipeline.Alert) object {
	head := strings.ToUpper(a.Severity) + "  " + a.Title
	if a.Status == "resolved" && isEnd(a) {
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
