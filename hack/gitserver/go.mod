module weir.internal/hack/gitserver

go 1.26.0
