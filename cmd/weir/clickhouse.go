package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"weir/storage/clickhouse"
)

// clickHouseConfig is store.clickhouse: the store of a fleet.
type clickHouseConfig struct {
	Addresses    []string         `yaml:"addresses"` // HOST:PORT of the native protocol
	Database     string           `yaml:"database"`  // weir when absent
	User         string           `yaml:"user"`
	PasswordFile string           `yaml:"password_file"`
	TLS          *clientTLSConfig `yaml:"tls"`
	// RollupRetention is how long the traffic by minute stays.
	RollupRetention duration `yaml:"rollup_retention"`
}

const defaultRollupRetention = 90 * 24 * time.Hour

// validate returns what is wrong, each with its path below at.
func (c *clickHouseConfig) validate(at string) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	if len(c.Addresses) == 0 {
		bad("addresses", "it is empty: give HOST:PORT of the native protocol of one server at least")
	}
	open := false
	for i, a := range c.Addresses {
		here, err := onLoopback(a)
		if err != nil || strings.HasPrefix(a, ":") {
			bad(fmt.Sprintf("addresses[%d]", i), "%q is not HOST:PORT", a)
		}
		open = open || !here
	}
	if c.RollupRetention < 0 {
		bad("rollup_retention", "it is negative")
	}
	if c.TLS != nil && (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls", "cert_file and key_file go together")
	}
	if c.TLS == nil && c.PasswordFile != "" && open {
		bad("password_file", "without tls it shows the password to whoever listens: give tls, if only tls: {}")
	}
	return errs
}

// options reads the files.
func (c *clickHouseConfig) options() (o clickhouse.Options, err error) {
	o = clickhouse.Options{Addresses: c.Addresses, Database: c.Database, User: c.User}
	if c.PasswordFile != "" {
		password, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return o, fmt.Errorf("read the password of ClickHouse: %w", err)
		}
		o.Password = strings.TrimRight(string(password), "\r\n")
	}
	if c.TLS != nil {
		if o.TLS, err = c.TLS.open(); err != nil {
			return o, fmt.Errorf("ClickHouse: %w", err)
		}
	}
	return o, nil
}

// clickHouseRetention is how long each class of rows stays.
func (c *config) clickHouseRetention() clickhouse.Retention {
	keep := clickhouse.Retention{
		Requests: time.Duration(c.Store.Retention), Rollups: time.Duration(c.Store.ClickHouse.RollupRetention), Alerts: time.Duration(c.Store.AlertRetention),
	}
	if keep.Rollups == 0 {
		keep.Rollups = defaultRollupRetention
	}
	return keep
}

var errNoClickHouse = errors.New("the configuration names no store.clickhouse")
