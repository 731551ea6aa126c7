package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestStalledLogReaderStopsNothing checks that lines are dropped while nobody reads, that none is
// cut, and that later lines are written.
func TestStalledLogReaderStopsNothing(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	output := newLossyOutput(writer)
	const lines = 60
	text := strings.Repeat("x", 4000)
	start := time.Now()
	for i := range lines { // far more than a pipe holds
		if _, err := fmt.Fprintf(output, "%d %s\n", i, text); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("%d lines took %s while nobody read", lines, took)
	}
	seen := make(chan []string)
	go func() {
		var all []string
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			all = append(all, scanner.Text())
			if strings.HasPrefix(scanner.Text(), "last") {
				break
			}
		}
		seen <- all
	}()
	for {
		_, _ = fmt.Fprintf(output, "last %s\n", text)
		select {
		case all := <-seen:
			if len(all) < 2 || len(all) >= lines {
				t.Errorf("%d lines were read, want some of %d", len(all), lines)
			}
			for _, line := range all {
				if !strings.HasSuffix(line, " "+text) {
					t.Errorf("a line was cut: %.20q, %d bytes", line, len(line))
				}
			}
			return
		default:
		}
	}
}
