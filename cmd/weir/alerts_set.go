package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"weir/console"
	"weir/pipeline"
)

// set changes the triage of alerts.
func (c *alertsCommand) set(ids []string) error {
	if c.all {
		if err := c.each(maxSet+1, func(_ []byte, a *pipeline.Alert) error {
			ids = append(ids, a.ID)
			return nil
		}); err != nil {
			return err
		}
		switch {
		case len(ids) > maxSet:
			return fmt.Errorf("more than %d alerts are so; select fewer", maxSet)
		case c.count != len(ids):
			return fmt.Errorf("%d alerts are so; --count %d changes them", len(ids), len(ids))
		}
	}
	body := c.change.body()
	if len(ids) == 1 {
		return c.setOne(ids[0], body)
	}
	return c.setMany(ids, body)
}

// setMany changes alerts in one step, with the audit; what may not be changed does
// not keep the others from it.
func (c *alertsCommand) setMany(ids []string, body map[string]any) error {
	var got struct {
		Changed int
		Data    []json.RawMessage
	}
	if err := c.api.ask(http.MethodPost, "/api/v1/alerts/bulk", map[string]any{"ids": ids, "change": body}, &got); err != nil {
		return err
	}
	failed := 0
	for _, line := range got.Data {
		var one struct{ ID, Outcome, Detail string }
		if err := json.Unmarshal(line, &one); err != nil {
			return fmt.Errorf("read what became of an alert: %w", err)
		}
		if c.output == "json" {
			if _, err := fmt.Fprintf(c.stdout, "%s\n", line); err != nil {
				return err
			}
		}
		if one.Outcome != "changed" && one.Outcome != "unchanged" {
			failed++
			fmt.Fprintf(c.stderr, "weir alerts: %s: %s\n", printable(one.ID), printable(cmp.Or(one.Detail, one.Outcome)))
		}
	}
	fmt.Fprintf(c.stderr, "%d of %d alerts changed\n", got.Changed, len(ids))
	if failed > 0 {
		return errors.New("not all of it is done")
	}
	return nil
}

func (c *alertsCommand) setOne(id string, body map[string]any) error {
	revision := ""
	if c.change.revision >= 0 {
		revision = strconv.FormatInt(c.change.revision, 10)
	}
	var got struct {
		ID     string         `json:"id"`
		Triage console.Triage `json:"triage"`
	}
	err := c.api.askAt(http.MethodPatch, "/api/v1/alerts/"+url.PathEscape(id), revision, body, &got)
	if p, ok := errors.AsType[*shellProblem](err); ok && p.status == http.StatusConflict {
		if _, a, err := c.alert(id); err == nil {
			return fmt.Errorf("somebody else was faster: it is %s", triageLine(triageOf(a.Envelope.Triage)))
		}
	}
	if err != nil {
		return err
	}
	if c.output == "json" {
		line, err := json.Marshal(got)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "%s\n", line)
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s  %s\n", printable(got.ID), triageLine(got.Triage))
	return err
}
