// Command image packs weir into a container image without a container engine: the
// static binary, the certificates that it trusts, time zones, a user that is not
// root, and nothing else. The same input gives the same bytes.
//
//	image -binary bin/weir -zoneinfo $(go env GOROOT)/lib/time/zoneinfo.zip -version v1 -o weir.tar
//
// The archive is an OCI layout that also has what docker save writes, so that
// docker load, podman load, skopeo (oci-archive:, docker-archive:) and umoci read it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	binary := fs.String("binary", "", "weir, built static for linux")
	out := fs.String("o", "", "archive to write")
	name := fs.String("name", "weir", "name of the image")
	version := fs.String("version", "dev", "its tag, and the version that its labels say")
	arch := fs.String("arch", runtime.GOARCH, "architecture of the binary, as Go calls it")
	zones := fs.String("zoneinfo", "", "time zones, lib/time/zoneinfo.zip of Go's root")
	created := fs.Int64("created", 0, "seconds since 1970 that it says it was made at: those of the commit")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *binary == "" || *zones == "" || *out == "" || fs.NArg() > 0 {
		return errors.New("give -binary, -zoneinfo and -o")
	}
	weir, err := os.ReadFile(*binary)
	if err != nil {
		return fmt.Errorf("read the binary: %w", err)
	}
	if err := checkBinary(weir, *arch); err != nil {
		return fmt.Errorf("read the binary %s: %w", *binary, err)
	}
	zoneinfo, err := os.ReadFile(*zones)
	if err != nil {
		return fmt.Errorf("read the time zones: %w", err)
	}
	archive, err := pack(image{
		name: *name, version: *version, arch: *arch, created: time.Unix(*created, 0).UTC(), binary: weir, zoneinfo: zoneinfo,
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(*out, archive, 0o644); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}
