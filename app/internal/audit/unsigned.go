package audit

import (
	"fmt"
	"time"
)

// Limits of the unsigned lines of an open chain: twice what a process writes between two
// signatures, because one may have failed or may be in progress.
const (
	maxOpenLines    = 2 * checkpointLines
	maxOpenRefusals = 2 * (maxRefusals + 1)
	maxOpenInterval = 2 * checkpointInterval
)

// lineKind is the kind of a line. Kinds have separate limits.
type lineKind int

const (
	eventLine lineKind = iota
	// refusalsLine counts refused requests. There are up to maxRefusals+1 of them at the end of a
	// minute.
	refusalsLine
	// signatureLine has a signature. It may be hours older than the next event, because an idle
	// process signs nothing.
	signatureLine
)

func kindOf(r Record) lineKind {
	switch {
	case r.Signature != "":
		return signatureLine
	case r.Refused > 0:
		return refusalsLine
	}
	return eventLine
}

// overdue returns an error if a running service would already have signed the chain's last lines.
func (c *chainState) overdue() *BrokenError {
	var events, refusals, first int
	var from, until time.Time
	for _, line := range c.unsigned {
		switch line.kind {
		case signatureLine:
			continue
		case refusalsLine:
			refusals++
		default:
			events++
		}
		if first == 0 {
			first = line.line
		}
		from, until = span(from, until, line.time)
	}
	if events <= maxOpenLines && refusals <= maxOpenRefusals && until.Sub(from) <= maxOpenInterval {
		return nil
	}
	return &BrokenError{first, fmt.Sprintf(
		"from it on, %d lines of its chain, from %s to %s, are not signed and may be forged: the service signs every minute and every %d lines; "+
			"Vault, or the reader of the log, may have been away: look in the service's own log",
		events+refusals, from.Format(time.RFC3339), until.Format(time.RFC3339), checkpointLines)}
}

// add counts the last lines of an open chain.
func (s *Summary) add(unsigned []unsignedLine) {
	s.Open++
	s.Unsigned += len(unsigned)
	for _, line := range unsigned {
		s.UnsignedFrom, s.UnsignedUntil = span(s.UnsignedFrom, s.UnsignedUntil, line.time)
	}
}

// span extends a span of time by t. The span is empty while both ends are zero. Times need not be
// in order, because forged lines may have any time.
func span(from, until, t time.Time) (time.Time, time.Time) {
	if from.IsZero() && until.IsZero() {
		return t, t
	}
	if t.Before(from) {
		from = t
	}
	if t.After(until) {
		until = t
	}
	return from, until
}
