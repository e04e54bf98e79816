package main

import (
	"path/filepath"

	"weir/collector"
	"weir/pipeline"
)

// newIdentity builds what the configuration says of clients: who they are, and
// what is known of their addresses.
func (c *config) newIdentity(keys *pipeline.PrivacyKeys, logins *pipeline.LoginRules) (*pipeline.Identity, error) {
	id, err := pipeline.NewIdentity(c.Identity, keys, logins)
	if err != nil {
		return nil, err
	}
	x, err := pipeline.LoadContext(c.Context)
	if err != nil {
		return nil, err
	}
	c.ContextHash = x.Hash()
	return id.WithContext(x), nil
}

// sourceLabels are the labels of each configured source, by its name.
func (c *config) sourceLabels() map[string]map[string]string {
	var out map[string]map[string]string
	for i := range c.Collect {
		if s := &c.Collect[i]; len(s.Labels) > 0 {
			if out == nil {
				out = map[string]map[string]string{}
			}
			names := []string{s.sourceName()}
			if s.File != "" {
				if found, err := collector.Expand(names); err == nil {
					names = found
				}
			}
			for _, name := range names {
				out[name] = s.Labels
			}
		}
	}
	return out
}

// storeKeyFile is where weir run keeps the keys of a store, unless configured.
func storeKeyFile(store string) string { return filepath.Join(filepath.Dir(store), "weir.key") }
