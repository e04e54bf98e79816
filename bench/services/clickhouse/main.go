// Clickhouse serves ClickHouse's protocols on loopback with the engine of a
// shared library, as a server does, until it is told to end:
//
//	clickhouse LIBCHDB.SO DIRECTORY NATIVE-PORT HTTP-PORT
//
// It is a program of its own so that tests can kill it.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/ebitengine/purego"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clickhouse:", err)
		os.Exit(1)
	}
}

// forever is a query that listens and then stays: the engine ends with it.
const forever = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT sleepEachRow(1) FROM numbers(1000000000) " +
	"SETTINGS function_sleep_max_microseconds_per_block=0, max_block_size=1 FORMAT Null"

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("want a library, a directory and two ports")
	}
	lib, err := purego.Dlopen(args[0], purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return err
	}
	var query func(argc int32, argv **byte) uintptr
	var failure func(result uintptr) string
	purego.RegisterLibFunc(&query, lib, "chdb_query_cmdline")
	purego.RegisterLibFunc(&failure, lib, "chdb_result_error")
	var argv []*byte
	for _, a := range []string{
		"clickhouse", "--path=" + args[1], "--tcp_port=" + args[2], "--http_port=" + args[3], "--listen_host=127.0.0.1", "--query=" + forever,
	} {
		argv = append(argv, &append([]byte(a), 0)[0])
	}
	result := query(int32(len(argv)), &argv[0])
	runtime.KeepAlive(argv)
	if text := failure(result); text != "" {
		return errors.New(text)
	}
	return nil
}
