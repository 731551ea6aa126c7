package backup_test

import (
	"testing"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }
