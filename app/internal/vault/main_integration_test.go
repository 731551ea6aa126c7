//go:build integration

package vault

import (
	"testing"

	"github.com/securenotes/securenotes/hack/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
