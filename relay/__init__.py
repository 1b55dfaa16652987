"""The worker between the stores: drains the outbox into the gateway, replays, compares."""
