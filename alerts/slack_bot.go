package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"weir/pipeline"
)

// bot posts m with chat.postMessage: the first message of a group begins a thread, the
// others go into it, and one that repeats is shown in the channel too.
func (s *slack) bot(ctx context.Context, g *Group, m object) error {
	token, err := readSecret(s.cfg.TokenFile)
	if err != nil {
		return err
	}
	m["channel"], m["unfurl_links"] = s.cfg.Channel, false
	m.put("thread_ts", g.Thread)
	if g.Repeat > 0 && g.Thread != "" {
		m["reply_broadcast"] = true
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Authorization", "Bearer "+token)
	ans, err := s.call.post(ctx, s.call.url.JoinPath("chat.postMessage").String(), h, appendObject(nil, m), 64<<10)
	if err != nil {
		return err
	}
	if err := ans.verdict(); err != nil {
		return err
	}
	var said struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
		TS    string `json:"ts"`
	}
	if err := json.Unmarshal(ans.body, &said); err != nil {
		return errors.New("answered with no JSON")
	}
	if !said.OK {
		return slackError(said.Error)
	}
	if g.Thread == "" {
		g.Thread = cut(said.TS, 64)
	}
	return nil
}

// slackError is what an error of the API means: that a message is wrong is its own
// fault, that Slack is busy passes, and all else is the token's or the channel's.
func slackError(code string) error {
	known := func(codes ...string) bool { return slices.Contains(codes, code) }
	switch {
	case known("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "no_text", "too_many_attachments"):
		return fmt.Errorf("answered %s: %w", code, pipeline.ErrPermanent)
	case known("ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"):
		return fmt.Errorf("answered %s", code)
	case known("account_inactive", "channel_not_found", "ekm_access_denied", "invalid_auth", "is_archived", "missing_scope", "no_permission",
		"not_authed", "not_in_channel", "org_login_required", "restricted_action", "token_expired", "token_revoked"):
		return fmt.Errorf("answered %s: %w", code, ErrRefused)
	}
	return fmt.Errorf("answered ok:false: %w", ErrRefused) // what it says may be anything
}
