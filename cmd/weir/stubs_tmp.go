package main

import (
	"context"
	"io"
)

func runService(context.Context, []string, io.Reader, io.Writer, io.Writer) int { return 1 }
func runInit(context.Context, []string, io.Reader, io.Writer, io.Writer) int    { return 1 }
func runCheck(context.Context, []string, io.Reader, io.Writer, io.Writer) int   { return 1 }
