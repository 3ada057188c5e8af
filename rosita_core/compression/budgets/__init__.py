"""What a model may cost, and which heads and units are bought for it."""
