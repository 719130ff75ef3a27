"""What makes the container image, and says what is in it and in the wheel. No part of either."""
