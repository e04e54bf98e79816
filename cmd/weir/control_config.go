package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// What of the configuration detection and alerts depend on enters the log as a control
// record, at the start and when it is reloaded: it takes effect at its place, and a
// replay treats what follows as the service did.

// controlConfig is the kind of a control record that holds a detectConfig.
const controlConfig = "config"

// detectConfig is what detection and alerts read of the configuration.
type detectConfig struct {
	Hash        string                    `json:"hash"` // versions.config
	Modes       map[string]detectors.Mode `json:"modes,omitempty"`
	Endpoints   []pipeline.EndpointRule   `json:"endpoints,omitempty"`
	MaxOpen     int                       `json:"max_open"`
	MaxResolved int                       `json:"max_resolved"`
	Budget      alerts.Budget             `json:"budget"`
}

func (c *config) detectConfig() detectConfig {
	return detectConfig{
		Hash: c.hash(), Modes: c.modes(), Endpoints: c.Endpoints, MaxOpen: c.Alerts.MaxOpen, MaxResolved: c.Alerts.MaxResolved, Budget: c.Alerts.Budget,
	}
}

// publishConfig puts what detection reads of c at the end of the log, unless before
// says the same, and returns it.
func (s *service) publishConfig(ctx context.Context, c *config, before []byte) ([]byte, error) {
	body, err := json.Marshal(c.detectConfig())
	if err != nil {
		return nil, fmt.Errorf("write the configuration of detection: %w", err)
	}
	if bytes.Equal(body, before) {
		return body, nil
	}
	if _, err := s.db.AppendControl(ctx, pipeline.Control{Kind: controlConfig, Payload: body}); err != nil {
		return nil, fmt.Errorf("put the configuration of detection into the log: %w", err)
	}
	return body, nil
}

// setConfig makes what a control record says the configuration from here on.
func (e *engine) setConfig(body []byte) error {
	var c detectConfig
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	logins, err := pipeline.NewLoginRules(c.Endpoints)
	if err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	switch {
	case e.set != nil:
		err = e.set.Configure(c.Modes, logins)
	case e.cross != nil:
		err = e.cross.Configure(c.Modes)
	}
	if err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	e.logins, e.versions.Config, e.configBody = logins, c.Hash, body
	e.bookConfig = alerts.Config{MaxOpen: c.MaxOpen, MaxResolved: c.MaxResolved, Budget: c.Budget}
	if e.book != nil {
		e.book.Configure(e.bookConfig, e.versions)
		e.book.Weigh(logins)
	}
	return nil
}
