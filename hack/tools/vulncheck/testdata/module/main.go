// Program calls one function that the test's database names.
package main

import (
	"os"
	"strings"
)

func main() {
	if strings.ToUpper(os.Args[0]) == "" {
		os.Exit(1)
	}
}
