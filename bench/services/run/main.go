// Run starts services for as long as it is not interrupted, and prints where
// they listen:
//
//	go run ./bench/services/run kafka clickhouse opensearch
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"weir/bench/services"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

// service is a running one.
type service interface {
	Address() string
	Stop() error
}

func start(name, dir string) (service, error) {
	switch name {
	case "kafka":
		return services.NewKafka(dir)
	case "clickhouse":
		return services.NewClickHouse(dir)
	case "opensearch":
		return services.NewOpenSearch(dir)
	}
	return nil, fmt.Errorf("there is no service %q; there are kafka, clickhouse and opensearch", name)
}

func run(names []string, stdout io.Writer) (err error) {
	if len(names) == 0 {
		return errors.New("which services? there are kafka, clickhouse and opensearch")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	dir, err := os.MkdirTemp("", "weir-services")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, name := range names {
		place := filepath.Join(dir, name)
		if err := os.Mkdir(place, 0o700); err != nil {
			return err
		}
		s, err := start(name, place)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Stop()) }()
		if _, err := fmt.Fprintln(stdout, name, s.Address()); err != nil {
			return err
		}
	}
	<-stop
	return nil
}
