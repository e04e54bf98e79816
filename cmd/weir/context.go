package main

import (
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
	c.contextHash = x.Hash()
	return id.WithContext(x), nil
}
