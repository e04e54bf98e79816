package main

import (
	"context"

	"weir/alerts"
)

// produceTo is how the sink kafka writes. The files are read for each attempt:
// another password in one is how it is rotated.
func produceTo(c alerts.KafkaConfig) (alerts.Produce, error) {
	from := kafkaConfig{Brokers: c.Brokers, Topic: c.Topic}
	if t := c.TLS; t != nil {
		from.TLS = &clientTLSConfig{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile}
	}
	if s := c.SASL; s != nil {
		from.SASL = &saslConfig{Mechanism: s.Mechanism, User: s.User, PasswordFile: s.PasswordFile}
	}
	if _, err := from.cluster(); err != nil {
		return nil, err
	}
	return func(ctx context.Context, keys []string, values [][]byte) error {
		cluster, err := from.cluster()
		if err != nil {
			return err
		}
		return cluster.Produce(ctx, c.Topic, keys, values)
	}, nil
}
