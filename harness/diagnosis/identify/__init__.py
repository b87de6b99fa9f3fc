"""identify: experiments that find the recurrence a subject computes, as the coefficients of its sums."""
