package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"weir/bench/services"
)

func TestMigrate(t *testing.T) {
	if testing.Short() {
		t.Skip("without servers")
	}
	server, err := services.NewClickHouse(t.TempDir())
	if errors.Is(err, services.ErrAbsent) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	file := writeFile(t, t.TempDir(), "weir.yaml", []byte(fmt.Sprintf("store:\n  clickhouse: {addresses: [%q], user: default}\n", server.Address())))
	for i, want := range []string{"0001_initial.sql applied\n", "The schema is up to date.\n"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"migrate", "-c", file}, nil, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), want) {
			t.Errorf("time %d: exit %d, %s%s", i+1, code, stdout.String(), stderr.String())
		}
	}
	for text, want := range map[string]string{
		"store: {}\n": "names no store.clickhouse",
		"store: {clickhouse: {addresses: [db]}}\n":                                             "store.clickhouse.addresses[0]",
		"store: {clickhouse: {addresses: ['db.example:9440'], password_file: /dev/null}}\n":    "store.clickhouse.password_file",
		"store: {clickhouse: {addresses: ['127.0.0.1:1'], tls: {ca_file: /does/not/exist}}}\n": "authority",
	} {
		var stdout, stderr bytes.Buffer
		file := writeFile(t, t.TempDir(), "weir.yaml", []byte(text))
		if code := run(t.Context(), []string{"migrate", "-c", file}, nil, &stdout, &stderr); code != exitFailed || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d, %s; want %s", text, code, stderr.String(), want)
		}
	}
}
