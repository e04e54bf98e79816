package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"weir/collector"
	"weir/pipeline"
)

// pushLag is how many records may wait for detection before senders have to.
const pushLag = 20_000

// pushSource listens for lines over HTTP, or for OTLP.
func (s *service) pushSource(ctx context.Context, c *collectConfig) (*source, error) {
	kind, how, usual, path := "push", c.Push, defaultPush, "/ingest/v1/"
	if c.OTLP != nil {
		kind, how, usual, path = "otlp", c.OTLP, defaultOTLP, "/v1/"
	}
	src := &source{input: input{name: c.sourceName()}, follow: true, listens: true}
	opt, err := c.options()
	if err != nil {
		return nil, err
	}
	// auto is by the lines unless the configuration says.
	given, _, err := c.format(nil, false)
	if err != nil {
		return nil, err
	}
	cursor, cause, _, err := s.requests.SourceCursor(ctx, src.id())
	if err != nil {
		return nil, err
	}
	cfg := collector.PushConfig{
		Source: src.name, Formats: c.formatFor(opt), Default: given, Options: opt, NewIdentify: identify(s.id), Cursor: cursor, Cause: cause.To,
		MaxBody: how.MaxBody.Bytes, MaxPending: how.MaxPending.Bytes, Log: s.log,
		Trusted: how.TLS != nil && how.TLS.ClientCAFile != "",
		Receipt: func(ctx context.Context, key [32]byte) (*pipeline.Receipt, error) {
			return s.requests.Receipt(ctx, src.id(), key)
		},
		Busy: func() bool {
			return s.status.appended.Load()-s.status.detected.Load() > pushLag
		},
		OTLP: c.OTLP != nil, Skipped: func(n int64) { s.metrics.skipped.Add(float64(n)) },
		Answered: func(status int) { s.metrics.pushed.WithLabelValues(strconv.Itoa(status)).Inc() },
	}
	if how.TokensFile != "" {
		if cfg.Tokens, err = collector.ReadTokens(how.TokensFile); err != nil {
			return nil, fmt.Errorf("%s: %w", src.name, err)
		}
	}
	secure, err := how.TLS.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.name, err)
	}
	p, err := collector.NewPush(cfg)
	if err != nil {
		return nil, err
	}
	loopback, _ := onLoopback(how.address(usual))
	l, err := listenTCP(how.address(usual), loopback)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.name, err)
	}
	server := p.NewServer()
	server.TLSConfig = secure
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	src.start = func() {
		s.log.Info("taking lines", zap.String("source", src.name), zap.String(kind, scheme+"://"+l.Addr().String()+path))
		go func() {
			var err error
			if secure != nil {
				err = server.ServeTLS(l, "", "")
			} else {
				err = server.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("cannot take lines any more", zap.String("source", src.name), zap.Error(err))
			}
		}()
	}
	src.next, src.release = p.Next, p.Release
	src.close = func() error {
		err := p.Close()
		// Those whose lines were kept in the last moment still hear of it.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return errors.Join(err, server.Shutdown(ctx), server.Close())
	}
	return src, nil
}
