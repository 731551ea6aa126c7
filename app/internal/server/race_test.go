//go:build race

package server

// detectorOverhead is what the race detector adds to the memory of each item, in percent.
const detectorOverhead = 50
